"""The momentum iterative fast gradient sign method inside a mask."""

from __future__ import annotations

import dataclasses

import torch

from sigma_ser.core.registry import register

from .active_set import ActiveSet
from .base import check_positive
from .losses import LOSSES, LossName
from .masked import MaskedAttack
from .projections import l1_normalised


@register("attack", "mifgsm")
@dataclasses.dataclass(frozen=True, kw_only=True, repr=False)
class MIFGSM(MaskedAttack):
    """MI-FGSM inside a mask (Dong, Liao, Pang, Su, Zhu, Hu & Li 2018, algorithm 1).

    `m <- mu m + g / |g|_1`, `delta <- P(delta + epsilon / steps * sign(m))` with the projection
    `P` to the Linf ball.

    Args:
        steps: number of gradient steps, at least 1.
        decay: momentum decay `mu`.
        loss: maximised loss, see `losses`.
    """

    steps: int = 10
    decay: float = 1.0
    loss: LossName = "cross-entropy"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_positive(self, "steps")

    def search(self, active: ActiveSet) -> None:
        loss = LOSSES[self.loss]
        delta, momentum = active.zeros(), active.zeros()
        for step in range(self.steps):
            gradient, delta, momentum = active.gradient(
                delta if step else None, loss, delta, momentum
            )
            momentum = self.decay * momentum + l1_normalised(gradient)
            delta += active.bound / self.steps * torch.sign(momentum)
            delta = self.within(active, delta, momentum)
        active.observe(delta)
