"""Mean and variance of gradients at noisy copies of the features.

Captum's NoiseTunnel draws from the global generator, so the map of an utterance would depend on
its batch. Here every utterance has its own generator, and noise is drawn at its size `(T_i, D)`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float, Int
from torch import Tensor

from sigma_ser.core.contracts import MapKind
from sigma_ser.core.registry import register

from .base import BaseExplainer
from .request import Request

# Rounding error of a gradient relative to the largest: a few units in the last place of float32.
_ROUNDING = 1e-6


@dataclass(frozen=True, kw_only=True)
class NoisyGradient(BaseExplainer):
    """Gradients at noisy copies of the features.

    Args:
        samples: number of noisy copies of each utterance, at least 1.
        stdev: standard deviation of the noise, in units of the victim's scale, at least 0.
    """

    samples: int = 25
    stdev: float = 0.15

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check(samples=(self.samples, 1), stdev=(self.stdev, 0))

    def gradients(
        self, request: Request
    ) -> Iterator[tuple[Int[Tensor, "G"], Float[Tensor, "N G T D"]]]:
        """Yield groups of utterances with the gradients at some of their noisy copies."""
        noise = request.noise()
        size = self.stdev * request.victim.scale
        for group, count in request.blocks(self.samples):
            source, x = noise.select(group.tolist()), request.batch.x[group]
            points = torch.cat([x + size * source.normal(x) for _ in range(count)])
            gradient = request.gradient(points, group.repeat(count))
            yield group, gradient.view(count, *x.shape)


@register("explainer", "smoothgrad")
@dataclass(frozen=True, kw_only=True)
class SmoothGrad(NoisyGradient):
    """The mean gradient over noisy copies (Smilkov et al. 2017, eq. 2)."""

    kind: ClassVar[MapKind] = "gradient"

    def attribute(self, request: Request) -> tuple[Float[Tensor, "B T D"], None]:
        """`samples` gradients for each utterance."""
        total = torch.zeros_like(request.batch.x)
        for group, gradients in self.gradients(request):
            total[group] += gradients.sum(0)
        return total / self.samples, None


@register("explainer", "vargrad")
@dataclass(frozen=True, kw_only=True)
class VarGrad(NoisyGradient):
    """The variance of `scale * gradient` over noisy copies (Adebayo et al. 2018, appendix).

    The variance is that of standardised features, as the paper's images are, so the map ranks
    without a further factor. `samples` is at least 2.
    """

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check(samples=(self.samples, 2))

    def attribute(self, request: Request) -> tuple[Float[Tensor, "B T D"], None]:
        """`samples` gradients for each utterance."""
        total = torch.zeros_like(request.batch.x, dtype=torch.float64)
        squares = torch.zeros_like(total)
        for group, gradients in self.gradients(request):
            scaled = (gradients * request.victim.scale).double()
            total[group] += scaled.sum(0)
            squares[group] += (scaled**2).sum(0)
        mean = total / self.samples
        variance = (squares / self.samples - mean**2).clamp(min=0.0)
        # A constant gradient differs between copies by the rounding of float32 only.
        rounding = (_ROUNDING * mean.abs().amax((1, 2), keepdim=True)) ** 2
        return torch.where(variance > rounding, variance, 0.0), None
