"""sigma-lambda: a joint objective of misclassification and explanation consistency."""

from __future__ import annotations

import dataclasses

import torch
from jaxtyping import Float
from torch import Tensor

from sigma_ser.core.errors import AttackError
from sigma_ser.core.registry import register

from .active_set import ActiveSet, Objective
from .base import SparseAttack, check_positive
from .losses import cw_hinge
from .projections import l2_normalised
from .saliency_maps import DifferentiableMap, check_saliency, saliency_map, twice_differentiable


@register("attack", "sigma-lambda")
@dataclasses.dataclass(frozen=True, kw_only=True, repr=False)
class SigmaLambda(SparseAttack):
    """Maximise `min(margin, 0) - lambda (1 - cos(|A(x_adv)|, |A(x)|))` (this project; no paper).

    `A` is the saliency map of the true class, which is differentiated again for the gradient of
    the cosine. The support and signs follow dual averaging on normalised gradients. The result is
    the successful perturbation with the largest cosine, scaled down by bisection as far as it
    still succeeds. With `weight=0` the explanation is ignored and the attack stops at its first
    success.

    Args:
        weight: lambda, the cost of a changed explanation relative to one unit of margin, where
            clean logits have a spread of 4 to 8 units; at least 0.
        steps: number of gradient steps, at least 1.
        saliency: the map `A`. On piecewise linear victims (ReLU), `gradient` has a zero second
            derivative, so the term has no effect there.
        path: number of points on the path of `integrated-gradients`, at least 1.
        halvings: number of bisection steps of the scaling, at least 0.
    """

    weight: float = 1.0
    steps: int = 40
    saliency: DifferentiableMap = "input-x-gradient"
    path: int = 8
    halvings: int = 5

    def __post_init__(self) -> None:
        super().__post_init__()
        check_positive(self, "steps", "path")
        if self.weight < 0:
            raise AttackError(f"weight must be at least 0, got {self.weight}")
        check_saliency(self, self.saliency)

    def search(self, active: ActiveSet) -> None:
        with twice_differentiable():
            kept = self._clean_map(active)
            total, delta = active.zeros(), active.zeros()
            for step in range(self.steps):
                objective = self._objective(active, kept)
                gradient, total, kept = active.ascent(
                    delta if step else None, objective, total, kept
                )
                total.add_(l2_normalised(gradient), alpha=step + 1)
                delta = active.corner(total)
            self._evaluate(active, delta, kept)
            if self.weight > 0:
                self._shrink(active, kept)

    def _clean_map(self, active: ActiveSet) -> Float[Tensor, "A T D"]:
        maps = []

        def record_map(x: Tensor, logits: Tensor) -> tuple[Tensor, None]:
            maps.append(saliency_map(active, x, logits, self.saliency, self.path).detach())
            return logits.sum(1), None

        active.ascent(None, record_map)
        return maps[0]

    def _objective(self, active: ActiveSet, kept: Float[Tensor, "A T D"]) -> Objective:
        def objective(x: Tensor, logits: Tensor) -> tuple[Tensor, Tensor | None]:
            value = cw_hinge(active.normalised(logits), active.labels, active.target)
            if self.weight == 0:
                return value, None
            cosine = torch.cosine_similarity(
                saliency_map(active, x, logits, self.saliency, self.path).flatten(1),
                kept.flatten(1),
            )
            return value + self.weight * (cosine - 1), cosine.detach()

        return objective

    def _evaluate(
        self, active: ActiveSet, delta: Float[Tensor, "A T D"], kept: Float[Tensor, "A T D"]
    ) -> None:
        """Evaluate margin and map of a perturbation, without a step."""
        active.ascent(delta, self._objective(active, kept))

    def _shrink(self, active: ActiveSet, kept: Float[Tensor, "A T D"]) -> None:
        """Bisect the smallest factor with which the best perturbation still succeeds."""
        full = active.best.clone()
        low, high = torch.zeros_like(active.best_margin), torch.ones_like(active.best_margin)
        for _ in range(self.halvings):
            middle = 0.5 * (low + high)
            self._evaluate(active, middle[:, None, None] * full, kept)
            low = torch.where(active.fooling, low, middle)
            high = torch.where(active.fooling, middle, high)
