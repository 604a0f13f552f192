"""sigma-mu: the explanation moves and the prediction stays."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from sigma_ser.core.errors import AttackError
from sigma_ser.core.registry import register

from .active_set import ActiveSet
from .base import SparseAttack, check_positive
from .losses import margin
from .problem import Problem
from .projections import l2_normalised
from .random_corner import random_corner
from .saliency_maps import (
    DifferentiableMap,
    SmoothReLU,
    check_saliency,
    saliency_map,
    twice_differentiable,
)


class KeptSet(ActiveSet):
    """An active set whose best candidate keeps the prediction and has the largest merit.

    A candidate that changes the prediction is never a result, and no utterance is removed.
    """

    def _assess(
        self,
        delta: Float[Tensor, "A T D"],
        fooled: Bool[Tensor, "A"],
        margins: Float[Tensor, "A"],
        merit: Float[Tensor, "A"] | None,
    ) -> tuple[Bool[Tensor, "A"], Bool[Tensor, "A"]]:
        del delta, margins
        none = torch.zeros_like(fooled)
        if merit is None:
            return none, none
        better = ~fooled & (merit > self.best_merit)
        self.best_merit = torch.where(better, merit, self.best_merit)
        return better, none


@register("attack", "sigma-mu")
@dataclasses.dataclass(frozen=True, kw_only=True, repr=False)
class SigmaMu(SparseAttack):
    """Maximise `1 - cos(|A(x_adv)|, |A(x)|) - mu max(0, kappa - margin)` (this project; no paper).

    `A` is the saliency map of the true class, and the margin is that of the true class over the
    best other one. The prediction is kept: the result is the candidate with the smallest cosine
    among those that are classified as before, so `success` is false for every utterance that is
    classified correctly. This is the counterpart of `sigma-lambda`, as in attacks on
    interpretations (Ghorbani, Abid & Zou 2019; Dombrowski et al. 2019). The support and signs
    follow dual averaging on normalised gradients.

    The map of a piecewise linear victim has no second derivative, so gradients of the cosine are
    those of a copy of the victim with softplus in place of ReLU (Dombrowski et al. 2019); every
    candidate is evaluated on the victim itself.

    Args:
        weight: mu, the cost of a small margin, where clean logits have a spread of 4 to 8 units;
            at least 0.
        reserve: kappa, the margin below which that cost begins, in the same units, at least 0.
        steps: number of gradient steps, at least 1.
        saliency: the map `A`.
        path: number of points on the path of `integrated-gradients`, at least 1.
        beta: sharpness of the softplus `log(1 + exp(beta x)) / beta`, above 0.
    """

    weight: float = 1.0
    reserve: float = 0.5
    steps: int = 40
    saliency: DifferentiableMap = "input-x-gradient"
    path: int = 8
    beta: float = 10.0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_positive(self, "steps", "path", "beta")
        for name in ("weight", "reserve"):
            if getattr(self, name) < 0:
                raise AttackError(f"{name} must be at least 0, got {getattr(self, name)}")
        check_saliency(self, self.saliency)

    def active_set(self, problem: Problem, rows: Int[Tensor, "A"]) -> KeptSet:
        return KeptSet(problem, rows)

    def search(self, active: ActiveSet) -> None:
        with twice_differentiable():
            smooth = SmoothReLU(self.beta)
            clean, smoothed = self._clean_maps(active, smooth)
            # The cosine is largest at the clean features, where its gradient is zero.
            total, delta = active.zeros(), random_corner(active)
            for step in range(self.steps):
                gradient, total, clean, smoothed = active.ascent(
                    delta, self._objective(active, smooth, clean, smoothed), total, clean, smoothed
                )
                total.add_(l2_normalised(gradient), alpha=step + 1)
                delta = active.corner(total)
            active.ascent(delta, self._objective(active, smooth, clean, smoothed))

    def _clean_maps(
        self, active: ActiveSet, smooth: SmoothReLU
    ) -> tuple[Float[Tensor, "A T D"], Float[Tensor, "A T D"]]:
        """The maps of the clean features: of the victim, and of its smooth copy."""
        maps: list[Tensor] = []

        def record_maps(x: Tensor, logits: Tensor) -> tuple[Tensor, None]:
            maps.append(self._map(active, x, logits).detach())
            maps.append(self._smooth(active, x, smooth)[0].detach())
            return logits.sum(1), None

        active.ascent(None, record_maps)
        return maps[0], maps[1] if smooth.used else maps[0]

    def _objective(
        self,
        active: ActiveSet,
        smooth: SmoothReLU,
        clean: Float[Tensor, "A T D"],
        smoothed: Float[Tensor, "A T D"],
    ) -> Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]:
        def objective(x: Tensor, logits: Tensor) -> tuple[Tensor, Tensor]:
            here = self._map(active, x, logits)
            merit = 1 - _cosine(here, clean)
            value = merit
            if smooth.used:
                there, logits = self._smooth(active, x, smooth)
                value = 1 - _cosine(there, smoothed)
            lead = -margin(active.normalised(logits), active.labels)
            return value - self.weight * (self.reserve - lead).clamp(min=0), merit.detach()

        return objective

    def _map(
        self, active: ActiveSet, x: Float[Tensor, "A T D"], logits: Float[Tensor, "A C"]
    ) -> Float[Tensor, "A T D"]:
        return saliency_map(active, x, logits, self.saliency, self.path)

    def _smooth(
        self, active: ActiveSet, x: Float[Tensor, "A T D"], smooth: SmoothReLU
    ) -> tuple[Float[Tensor, "A T D"], Float[Tensor, "A C"]]:
        """Map and logits of the victim with softplus in place of ReLU."""
        active.meter.spend(1)
        with smooth:
            logits = active.victim(x, active.lengths, active.owner)
            return self._map(active, x, logits), logits


def _cosine(one: Float[Tensor, "A T D"], other: Float[Tensor, "A T D"]) -> Float[Tensor, "A"]:
    return torch.cosine_similarity(one.flatten(1), other.flatten(1))
