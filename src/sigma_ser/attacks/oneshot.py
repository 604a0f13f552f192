"""One gradient: what a sparse attack costs at the least."""

from __future__ import annotations

import dataclasses

from sigma_ser.core.registry import register

from .active_set import ActiveSet
from .base import SparseAttack
from .losses import LOSSES, LossName


@register("attack", "oneshot")
@dataclasses.dataclass(frozen=True, kw_only=True, repr=False)
class OneShot(SparseAttack):
    """One gradient, then the k-sparse corner that it points to: `eps * sign(g)` on the top `k`.

    The exact optimum on a linear victim with two classes. Costs one backward and two forward
    passes.

    Args:
        loss: what the gradient is of.
    """

    loss: LossName = "margin"

    def search(self, active: ActiveSet) -> None:
        (gradient,) = active.gradient(None, LOSSES[self.loss])
        active.observe(active.corner(gradient))
