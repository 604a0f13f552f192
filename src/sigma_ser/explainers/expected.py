"""Integrated Gradients averaged over baselines, at random points of the paths.

Captum's GradientShap draws from global generators; here every utterance has its own generator.
"""

from __future__ import annotations

import abc
from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from torch import Tensor

from sigma_ser.core.features import FeatureBatch
from sigma_ser.core.registry import register
from sigma_ser.core.seeds import UtteranceNoise

from .base import BaseExplainer
from .references import draw_references
from .request import Request


@dataclass(frozen=True, kw_only=True)
class PathSampling(BaseExplainer):
    """The mean over samples of `(x' - x0) * d f_y / d x` at `x0 + alpha (x' - x0)`.

    `alpha` is uniform in [0, 1]; subclasses define the end `x'` and the baseline `x0`.

    Args:
        samples: number of baselines for each utterance, at least 1.
    """

    samples: int = 32

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check(samples=(self.samples, 1))

    @abc.abstractmethod
    def ends(
        self, request: Request, noise: UtteranceNoise, x: Float[Tensor, "G T D"]
    ) -> tuple[Float[Tensor, "G T D"], Float[Tensor, "G T D"]]:
        """Draw `x'` and `x0` once for each utterance of a group."""

    def attribute(self, request: Request) -> tuple[Float[Tensor, "B T D"], None]:
        """`samples` gradients for each utterance."""
        total = torch.zeros_like(request.batch.x)
        noise = request.noise()
        for group, count in request.blocks(self.samples):
            source, x = noise.select(group.tolist()), request.batch.x[group]
            points, distances = [], []
            for _ in range(count):
                end, start = self.ends(request, source, x)
                alphas = torch.stack(
                    [torch.rand((), generator=rng, dtype=x.dtype) for rng in source.generators]
                )
                points.append(torch.lerp(start, end, alphas.to(x.device)[:, None, None]))
                distances.append(end - start)
            gradient = request.gradient(torch.cat(points), group.repeat(count))
            total[group] += (gradient * torch.cat(distances)).view(count, *x.shape).sum(0)
        return total / self.samples, None


@register("explainer", "gradient-shap")
@dataclass(frozen=True, kw_only=True)
class GradientShap(PathSampling):
    """GradientSHAP (Lundberg & Lee 2017): noisy features against noisy baselines.

    Args:
        stdev: standard deviation of the noise on the features, in units of scale, at least 0.
        spread: standard deviation of the noise on the baseline, the victim's channel means, in
            units of scale, at least 0.
    """

    stdev: float = 0.1
    spread: float = 0.5

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check(stdev=(self.stdev, 0), spread=(self.spread, 0))

    def ends(
        self, request: Request, noise: UtteranceNoise, x: Float[Tensor, "G T D"]
    ) -> tuple[Float[Tensor, "G T D"], Float[Tensor, "G T D"]]:
        """Features and channel means, both with Gaussian noise."""
        scale = request.victim.scale
        start = request.victim.mean + self.spread * scale * noise.normal(x)
        return x + self.stdev * scale * noise.normal(x), start


@register("explainer", "expected-gradients")
@dataclass(frozen=True, kw_only=True)
class ExpectedGradients(PathSampling):
    """Expected Gradients (Erion et al. 2021, eq. 3): the baselines are real utterances.

    Args:
        references: utterances from which baselines are drawn, preferably of the training part;
            `None` draws Gaussian channel offsets with the victim's mean and scale.
    """

    references: FeatureBatch | None = field(default=None, repr=False)

    def ends(
        self, request: Request, noise: UtteranceNoise, x: Float[Tensor, "G T D"]
    ) -> tuple[Float[Tensor, "G T D"], Float[Tensor, "G T D"]]:
        """The features, and a reference."""
        return x, draw_references(self.references, request.victim, noise, x)
