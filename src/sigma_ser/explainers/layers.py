"""Explainers that use the victim's layers: guided backpropagation, Grad-CAM, attention weights."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from sigma_ser.core.contracts import MapKind
from sigma_ser.core.errors import ExplainerError
from sigma_ser.core.registry import register

from .base import BaseExplainer
from .module import Scored, inputs_of, module_of
from .request import Request


@register("explainer", "guided-backprop")
@dataclass(frozen=True, kw_only=True)
class GuidedBackprop(BaseExplainer):
    """Guided backpropagation (Springenberg et al. 2015), by Captum.

    Negative gradients are set to 0 at every ReLU. A victim without ReLU modules is an error, since
    the map would be the plain gradient.
    """

    kind: ClassVar[MapKind] = "gradient"

    def attribute(self, request: Request) -> tuple[Float[Tensor, "B T D"], None]:
        """One forward and one backward pass for each utterance."""
        from captum.attr import GuidedBackprop as Captum

        scored = Scored(request)
        if not any(isinstance(layer, nn.ReLU) for layer in scored.modules()):
            raise ExplainerError(
                "guided backpropagation requires ReLU modules and this victim has none; "
                "use gradient"
            )
        saliency = torch.zeros_like(request.batch.x)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Setting backward hooks on ReLU", UserWarning)
            for group in torch.split(request.all_utterances(), request.rows):
                saliency[group] = Captum(scored).attribute(
                    request.batch.x[group].requires_grad_(), additional_forward_args=(group,)
                )
        return saliency, None


@register("explainer", "grad-cam")
@dataclass(frozen=True, kw_only=True)
class GradCAM(BaseExplainer):
    """Grad-CAM on the last convolution over time (Selvaraju et al. 2017, eq. 1, 2), by Captum.

    All channels of a frame have the same value. A victim without `Conv1d` modules is an error.
    Captum averages over all frames of the layer, including padding, so each utterance is explained
    at its own length.
    """

    def attribute(self, request: Request) -> tuple[Float[Tensor, "B T D"], None]:
        """One forward and one backward pass for each utterance."""
        from captum.attr import LayerAttribution, LayerGradCam

        scored = Scored(request)
        layers = [layer for layer in scored.modules() if isinstance(layer, nn.Conv1d)]
        if not layers:
            raise ExplainerError(
                "Grad-CAM requires a convolution over time (Conv1d) and this victim has none; "
                "use gradient or occlusion"
            )
        method = LayerGradCam(scored, layers[-1])
        saliency = torch.zeros_like(request.batch.x)
        for row, length in enumerate(request.batch.lengths.tolist()):
            owner = request.all_utterances()[row : row + 1]
            frames = method.attribute(
                request.batch.x[owner, :length],
                additional_forward_args=(owner,),
                relu_attributions=True,
            )
            # The backward pass ends at the convolution, so the counter of the victim misses it.
            request.victim.book_backwards(owner.cpu())
            if frames.shape[2] != length:
                frames = LayerAttribution.interpolate(frames, length, "linear")
            saliency[row, :length] = frames[0, 0, :, None]
        return saliency, None


@register("explainer", "attention")
@dataclass(frozen=True, kw_only=True)
class AttentionWeights(BaseExplainer):
    """The attention weight of each frame in the victim's head, for every class the same.

    It is a control rather than an explanation (Jain & Wallace 2019). The weights come from the
    module that has a method `attention(x, lengths) -> (B, T)`; a victim without one is an error.
    All channels of a frame have the weight of the frame.
    """

    def attribute(self, request: Request) -> tuple[Float[Tensor, "B T D"], None]:
        """One forward pass for each utterance."""
        heads = [
            layer
            for layer in module_of(request.victim).modules()
            if callable(getattr(layer, "attention", None))
        ]
        if not heads:
            raise ExplainerError(
                "this victim has no attention weights; give its module a method "
                "attention(x, lengths) -> (B, T), or use another explainer"
            )
        weights = torch.zeros(request.batch.x.shape[:2], device=request.batch.device)
        for group in torch.split(request.all_utterances(), request.rows):
            # The input of the head is standardised, so it is recorded during a call of the victim.
            with torch.no_grad(), inputs_of(heads[0]) as recorded:
                request.score(request.batch.x[group], group)
                weights[group] = heads[0].attention(*recorded[0])  # type: ignore[operator]
        return weights[:, :, None].expand_as(request.batch.x), None
