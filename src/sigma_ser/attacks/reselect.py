"""Support reselection: the weakest units of the support are exchanged for stronger ones."""

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
    """Iterative support reselection (this project; no paper).

    `e <- 0.5 e + 0.5 g / |g|_2`. The support starts as the `k` units of largest `|e| * scale`. In
    step `i` its `m = max(1, floor(k (1 - i / steps)^2))` weakest units are exchanged for the `m`
    strongest units outside, if these are stronger. `delta = epsilon * sign(e)` on the support.

    Args:
        steps: gradient steps per run, at least 1.
        loss: maximised loss, see `losses`.
        restarts: further runs from random perturbations, for utterances that are still classified
            correctly, at least 0.
        all_targets: add one targeted run per other class, in order of the clean logits
            (untargeted attacks only).
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
    """The support after exchanging up to a fraction `share` of its units, at least one."""
    count = (active.units * share).long().clamp(min=1)
    weakest = active.pick(-gain, count, support)
    strongest = active.pick(gain, count, active.allowed & ~support)
    leaving = active.budget.touched(weakest, active.lengths)
    winners = active.pick(gain, leaving, weakest | strongest)
    return (support & ~weakest) | winners
