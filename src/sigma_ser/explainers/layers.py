"""Explainers that use the victim's layers: guided backpropagation, Grad-CAM, attention weights.

The first two observe the operations of their own forward pass rather than hook modules, so they
include functional layers, and calls of the victim in other threads are unaffected.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from sigma_ser.core.contracts import MapKind
from sigma_ser.core.errors import ExplainerError
from sigma_ser.core.registry import register

from .base import BaseExplainer
from .module import inputs_of, module_of, with_own_modules
from .request import Request

# Rounding error of a sum of gradients relative to the largest, and a margin.
_ROUNDING = 1e-5


@register("explainer", "guided-backprop")
@dataclass(frozen=True, kw_only=True)
class GuidedBackprop(BaseExplainer):
    """Guided backpropagation (Springenberg et al. 2015): no negative gradient passes a ReLU.

    It equals Captum's `GuidedBackprop` where every ReLU is a module, and includes functional ones.
    A victim without a ReLU between features and output is an error, since the map would be the
    plain gradient.
    """

    kind: ClassVar[MapKind] = "gradient"

    def attribute(self, request: Request) -> tuple[Float[Tensor, "B T D"], None]:
        """One forward and one backward pass for each utterance."""
        return request.gradient(request.batch.x, prepare=_guide), None


def _guide(score: Float[Tensor, "R"], x: Float[Tensor, "R T D"]) -> None:
    """Make every ReLU between `x` and the score pass positive gradients only."""
    parents: dict[Any, list[Any]] = {score.grad_fn: []}
    open_nodes = [score.grad_fn]
    while open_nodes:
        node = open_nodes.pop()
        for child, _ in node.next_functions if node is not None else ():
            if child is None:
                continue
            if child not in parents:
                open_nodes.append(child)
            parents.setdefault(child, []).append(node)
    features = torch.autograd.graph.get_gradient_edge(x).node
    if features not in parents:
        return  # without a gradient of the features, the backward pass is an error
    between: set[Any] = set()
    open_nodes = [features]
    while open_nodes:
        node = open_nodes.pop()
        if node not in between:
            between.add(node)
            open_nodes += parents.get(node, [])
    rectifiers = [node for node in between if node.name().startswith("ReluBackward")]
    if not rectifiers:
        raise ExplainerError(
            "guided backpropagation requires a ReLU between the features and the output, and no "
            "ReLU runs in this victim; use gradient"
        )
    for node in rectifiers:
        node.register_prehook(lambda gradients: (gradients[0].clamp(min=0),))


@register("explainer", "grad-cam")
@dataclass(frozen=True, kw_only=True)
class GradCAM(BaseExplainer):
    """Grad-CAM on the last convolution over time (Selvaraju et al. 2017, eq. 1, 2).

    The layer is the convolution (`Conv1d`) that runs last among those with a time axis on which
    the output depends. A layer whose maps may be shifted without a change of the output, such as
    the logits of an attention, has zero weights by equation 1; it is passed over together with
    the convolutions that only feed it. All channels of a frame have the same value, and each
    utterance is explained at its own length, because the weights average over all frames of the
    layer. A victim without such a convolution is an error. It equals Captum's `LayerGradCam` on
    the same layer.
    """

    def attribute(self, request: Request) -> tuple[Float[Tensor, "B T D"], None]:
        """One forward and one backward pass for each utterance."""
        saliency = torch.zeros_like(request.batch.x)
        for row, length in enumerate(request.batch.lengths.tolist()):
            owner = request.all_utterances()[row : row + 1]
            with _Convolutions() as ran:
                score = request.score(request.batch.x[owner, :length].requires_grad_(), owner)
            maps, gradient = _last_convolution(score, ran.outputs)
            # The backward pass ends at the convolution, so the counter of the victim misses it.
            request.victim.book_backwards(owner.cpu())
            weights = gradient.mean(2, keepdim=True)
            frames = (weights * maps.detach()).sum(1, keepdim=True).relu()
            if frames.shape[2] != length:
                frames = functional.interpolate(frames, length, mode="linear")
            saliency[row, :length] = frames[0, 0, :, None]
        return saliency, None


class _Convolutions(TorchFunctionMode):
    """Records the outputs of convolutions over time in this thread, in the order of their calls."""

    def __init__(self) -> None:
        super().__init__()
        self.outputs: list[Tensor] = []

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        del types
        output = func(*args, **(kwargs or {}))
        if func is functional.conv1d:
            self.outputs.append(output)
        return output


def _last_convolution(
    score: Float[Tensor, "1"], outputs: list[Tensor]
) -> tuple[Float[Tensor, "1 C T"], Float[Tensor, "1 C T"]]:
    """The output of the layer that Grad-CAM uses, and the gradient of the score there."""
    outputs = [output for output in outputs if output.ndim == 3 and len(output) == 1]
    # An utterance of one frame has a time axis of one frame.
    outputs = [output for output in outputs if output.shape[2] > 1] or outputs
    shifted: list[tuple[Tensor, Tensor]] = []
    feeding, zero = None, None
    for output in reversed(outputs):
        gradient = _derivative(score, output)
        if gradient is None:
            continue
        largest = gradient.abs().amax()
        if float(largest) == 0.0:
            zero = zero or (output, gradient)
        elif float(gradient.mean(2).abs().amax()) <= _ROUNDING * float(largest):
            shifted.append((output, gradient))
        else:
            other_ways = gradient
            for later, its_gradient in shifted:
                through = _derivative(later, output, its_gradient)
                other_ways = other_ways if through is None else other_ways - through
            if float(other_ways.abs().amax()) > _ROUNDING * float(largest):
                return output, gradient
            feeding = feeding or (output, gradient)
    found = feeding or zero
    if found is None:
        raise ExplainerError(
            "Grad-CAM requires a convolution over time (Conv1d) whose mean over time changes the "
            "output, and none runs in this victim; use gradient or occlusion"
        )
    return found


def _derivative(output: Tensor, source: Tensor, weights: Tensor | None = None) -> Tensor | None:
    """The vector-Jacobian product of `output` at `source`; `None` if it does not depend on it."""
    if not source.requires_grad:
        return None
    (gradient,) = torch.autograd.grad(output, source, weights, retain_graph=True, allow_unused=True)
    return gradient


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
        request = with_own_modules(request)
        heads = [
            layer
            for layer in module_of(request.victim).modules()
            if callable(getattr(layer, "attention", None))
        ]
        missing = ExplainerError(
            "this victim has no attention weights; give a module that it calls a method "
            "attention(x, lengths) -> (B, T), or use another explainer"
        )
        if not heads:
            raise missing
        weights = request.batch.x.new_zeros(request.batch.x.shape[:2])
        for group in torch.split(request.all_utterances(), request.rows):
            # The input of the head is standardised, so it is recorded during a call of the victim.
            with torch.no_grad(), inputs_of(heads[0]) as recorded:
                request.score(request.batch.x[group], group)
                if not recorded:
                    raise missing
                arguments, keywords = recorded[0]
                weights[group] = heads[0].attention(*arguments, **keywords)  # type: ignore[operator]
        return weights[:, :, None].expand_as(request.batch.x), None
