"""The fast gradient sign method inside a mask."""

from __future__ import annotations

import dataclasses

from sigma_ser.core.registry import register

from .active_set import ActiveSet
from .losses import LOSSES, LossName
from .masked import MaskedAttack


@register("attack", "fgsm")
@dataclasses.dataclass(frozen=True, kw_only=True, repr=False)
class FGSM(MaskedAttack):
    """`delta = epsilon * sign(g)` inside the mask (Goodfellow, Shlens & Szegedy 2015, section 4).

    Args:
        loss: maximised loss, see `losses`.
    """

    loss: LossName = "cross-entropy"

    def search(self, active: ActiveSet) -> None:
        (gradient,) = active.gradient(None, LOSSES[self.loss])
        delta = active.extreme(gradient, active.allowed)
        active.observe(self.within(active, delta, gradient))
