"""A single-gradient sparse attack: the cheapest baseline."""

from __future__ import annotations

import dataclasses

from sigma_ser.core.registry import register

from .active_set import ActiveSet
from .base import SparseAttack
from .losses import LOSSES, LossName


@register("attack", "oneshot")
@dataclasses.dataclass(frozen=True, kw_only=True, repr=False)
class OneShot(SparseAttack):
    """k-sparse FGSM: `delta = epsilon * sign(g)` on the `k` units of largest `|g| * scale`.

    This maximises `<g, delta>` over the budget, and is exact for a linear victim with two classes.
    It costs one backward and two forward passes.

    Args:
        loss: maximised loss, see `losses`.
    """

    loss: LossName = "margin"

    def search(self, active: ActiveSet) -> None:
        (gradient,) = active.gradient(None, LOSSES[self.loss])
        active.observe(active.corner(gradient))
