"""PGD_0 with an Linf bound: gradient steps, projected to the k-sparse ball."""

from __future__ import annotations

import dataclasses

import torch
from jaxtyping import Float
from torch import Tensor

from sigma_ser.core.registry import register

from .active_set import ActiveSet
from .base import SparseAttack, check_positive
from .losses import LOSSES, LossName
from .projections import l1_normalised


@register("attack", "pgd0")
@dataclasses.dataclass(frozen=True, kw_only=True, repr=False)
class PGD0(SparseAttack):
    """PGD_0 + Linf (Croce & Hein 2019, section 4), with restarts from random points.

    `delta <- P(delta + eta g / |g|_1)`. The projection scores each element by the reduction of
    the squared distance to the k-sparse ball if the element is kept,
    `delta^2 - min(upper - delta, delta - lower, 0)^2` (eq. 13), keeps the `k` largest scores, and
    clips. This differs from the paper: `delta` is measured in units of epsilon per channel, and
    `eta` is set from the first gradient of each utterance so that the `k` leading elements move by
    `mean_step` on average (the paper fixes one value for its images). Some public ports use a
    maximum in place of the minimum of eq. 13 and test for success only after the last step.

    Args:
        steps: gradient steps per run, at least 1.
        restarts: further runs for utterances that are still classified correctly, at least 0.
        mean_step: mean first step of the leading elements, as a fraction of the ball's width
            `2 epsilon`, above 0.
        loss: maximised loss, see `losses`.
    """

    steps: int = 40
    restarts: int = 4
    mean_step: float = 0.15
    loss: LossName = "cross-entropy"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_positive(self, "steps", "mean_step")

    def search(self, active: ActiveSet) -> None:
        loss = LOSSES[self.loss]
        for _ in range(1 + self.restarts):
            delta = project(active, active.noise.uniform(active.x) * active.bound)
            eta = torch.zeros_like(active.best_margin)
            for step in range(self.steps):
                gradient, delta, eta = active.gradient(delta, loss, delta, eta)
                direction = l1_normalised(gradient * active.bound)
                if step == 0:
                    eta = self._step_size(active, direction)
                delta += eta[:, None, None] * direction * active.bound
                delta = project(active, delta)
            active.observe(delta)

    def _step_size(
        self, active: ActiveSet, direction: Float[Tensor, "A T D"]
    ) -> Float[Tensor, "A"]:
        leaders = active.support(direction.abs())
        share = torch.where(leaders, direction.abs(), 0.0).sum((1, 2))
        count = leaders.sum((1, 2), dtype=share.dtype)
        return 2 * self.mean_step * count / share.clamp(min=1e-30)


def project(active: ActiveSet, delta: Float[Tensor, "A T D"]) -> Float[Tensor, "A T D"]:
    """Projection to the k-sparse ball; distances are in units of epsilon per channel."""
    clipped = active.clip(delta.clone())
    unit = active.bound.clamp(min=1e-30)
    # delta^2 - (delta - clipped)^2, in one product.
    nearer = (2 * delta - clipped).div_(unit).mul_(clipped / unit)
    return torch.where(active.support(nearer), clipped, 0.0)
