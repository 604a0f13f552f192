"""The fast gradient sign method, in a mask."""

from __future__ import annotations

import dataclasses

from sigma_ser.core.registry import register

from .active_set import ActiveSet
from .losses import LOSSES, LossName
from .masked import MaskedAttack


@register("attack", "fgsm")
@dataclasses.dataclass(frozen=True, kw_only=True, repr=False)
class FGSM(MaskedAttack):
    """`delta = eps * sign(g)` on the mask (Goodfellow, Shlens & Szegedy 2015, section 4).

    Args:
        loss: what is climbed.
    """

    loss: LossName = "cross-entropy"

    def search(self, active: ActiveSet) -> None:
        (gradient,) = active.gradient(None, LOSSES[self.loss])
        delta = active.extreme(gradient, active.allowed)
        active.observe(self.within(active, delta, gradient))
