"""Support reselection: corners whose weakest elements are swapped for stronger ones."""

from __future__ import annotations

import dataclasses

from jaxtyping import Bool, Float
from torch import Tensor

from sigma_ser.core.registry import register

from .active_set import ActiveSet
from .base import SparseAttack, check_positive
from .losses import LOSSES, Loss, LossName
from .projections import l2_normalised
from .random_corner import random_corner


@register("attack", "reselect")
@dataclasses.dataclass(frozen=True, kw_only=True, repr=False)
class Reselect(SparseAttack):
    """A decaying mean of gradients; fewer and fewer units of the support are swapped.

    `e <- 0.5 e + 0.5 g / |g|_2`; the support is the top `k` of `|e| * scale` at first; then its
    `m = max(1, floor(k (1 - i / steps)^2))` weakest units give way to the `m` strongest outside,
    where these are stronger; `delta = eps * sign(e)` on the support.

    Args:
        steps: gradients of each run.
        loss: what is climbed.
        restarts: runs for the survivors from random corners.
        all_targets: then one run for each other class, the likeliest first (untargeted only).
    """

    steps: int = 40
    loss: LossName = "margin"
    restarts: int = 1
    all_targets: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        check_positive(self, "steps")

    def search(self, active: ActiveSet) -> None:
        loss = LOSSES[self.loss]
        self._run(active, loss, None, None)
        for _ in range(self.restarts):
            self._run(active, loss, random_corner(active), None)
        if self.all_targets and active.target is None:
            for rival in range(active.rivals.shape[1]):
                self._run(active, loss, None, rival)

    def _run(
        self,
        active: ActiveSet,
        loss: Loss,
        start: Float[Tensor, "A T D"] | None,
        rival: int | None,
    ) -> None:
        mean, support, delta = active.zeros(), active.allowed, active.zeros()
        for step in range(self.steps):
            at = delta if step else start
            gradient, mean, support = active.gradient(at, loss, mean, support, rival=rival)
            mean.mul_(0.5).add_(l2_normalised(gradient), alpha=0.5)
            gain = active.gain(mean)
            share = (1 - step / self.steps) ** 2
            support = active.support(gain) if step == 0 else swapped(active, support, gain, share)
            delta = active.extreme(mean, support)
        active.observe(delta)


def swapped(
    active: ActiveSet,
    support: Bool[Tensor, "A T D"],
    gain: Float[Tensor, "A T D"],
    share: float,
) -> Bool[Tensor, "A T D"]:
    """The support with up to a `share` of its units, at least one, swapped for stronger ones."""
    count = (active.units * share).long().clamp(min=1)
    weakest = active.pick(-gain, count, support)
    strongest = active.pick(gain, count, active.allowed & ~support)
    leaving = active.budget.touched(weakest, active.lengths)
    winners = active.pick(gain, leaving, weakest | strongest)
    return (support & ~weakest) | winners
