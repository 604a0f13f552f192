"""Linear surrogate models over segments of frames: KernelSHAP and LIME, by Captum.

Captum draws from the global generator, which is seeded for each utterance and restored afterwards.
"""

from __future__ import annotations

import abc
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from sigma_ser.core.registry import register

from .base import BaseExplainer, gap
from .request import Request


@dataclass(frozen=True, kw_only=True)
class Surrogate(BaseExplainer):
    """Base class of models of the output as a function of which segments are present.

    Absent segments are replaced by channel means. The value of a segment is divided equally among
    its elements, so the sum of the map is the sum of the values.

    Args:
        samples: number of coalitions of segments, at least 2.
        frames: number of frames of a segment, at least 1; the last one may be shorter.
    """

    samples: int = 128
    frames: int = 5

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check(samples=(self.samples, 2), frames=(self.frames, 1))

    @abc.abstractmethod
    def method(self, request: Request) -> Any:
        """Create the method of Captum."""

    def segments(self, request: Request) -> Float[Tensor, "B T D"]:
        """Compute the map with `samples` forward passes for each utterance, at its own length."""
        x = request.batch.x
        devices = [x.device] if x.is_cuda else []
        saliency = torch.zeros_like(x)
        for row, length in enumerate(request.batch.lengths.tolist()):
            owner = request.all_utterances()[row : row + 1]
            here, baseline = x[owner, :length], request.baseline[owner, :length]
            segment = torch.arange(length, device=x.device) // self.frames
            if int(segment[-1]) == 0:
                # With a single segment, present or absent, there is no model to fit.
                drop = request.values(here, owner) - request.values(baseline, owner)
                saliency[row, :length] = drop / here.numel()
                continue
            with torch.no_grad(), torch.random.fork_rng(devices):
                torch.manual_seed(int(request.seeds[row]))
                values = self.method(request).attribute(
                    here,
                    baselines=baseline,
                    additional_forward_args=(owner,),
                    feature_mask=segment[None, :, None].expand(here.shape),
                    n_samples=self.samples,
                    perturbations_per_eval=request.rows,
                )
            size = segment.bincount()[segment] * x.shape[2]
            saliency[row, :length] = values[0] / size[:, None]
        return saliency


@register("explainer", "kernel-shap")
@dataclass(frozen=True, kw_only=True)
class KernelShap(Surrogate):
    """Shapley values of segments by weighted regression (Lundberg & Lee 2017, theorem 2)."""

    def method(self, request: Request) -> Any:
        """Captum's KernelShap."""
        from captum.attr import KernelShap as Captum

        return Captum(request.score)

    def attribute(self, request: Request) -> tuple[Float[Tensor, "B T D"], Float[Tensor, "B"]]:
        """`samples` forward passes, and two for the completeness gap."""
        saliency = self.segments(request)
        return saliency, gap(request, saliency, request.baseline)


@register("explainer", "lime")
@dataclass(frozen=True, kw_only=True)
class Lime(Surrogate):
    """A sparse local linear model of segments (Ribeiro, Singh, Guestrin 2016, section 3).

    Args:
        alpha: weight of the L1 penalty, in units of the explained output, at least 0.
    """

    alpha: float = 0.01

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check(alpha=(self.alpha, 0))

    def method(self, request: Request) -> Any:
        """Captum's Lime with a Lasso."""
        from captum._utils.models.linear_model import SkLearnLasso
        from captum.attr import Lime as Captum

        return Captum(request.score, interpretable_model=SkLearnLasso(alpha=self.alpha))

    def attribute(self, request: Request) -> tuple[Float[Tensor, "B T D"], None]:
        """`samples` forward passes; a penalised model is not complete."""
        return self.segments(request), None
