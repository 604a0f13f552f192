"""Projected gradient descent in a mask: the plain inner attack of SIGMA."""

from __future__ import annotations

import dataclasses
import math

import torch

from sigma_ser.core.registry import register

from .active_set import ActiveSet
from .base import check_positive
from .losses import LOSSES, LossName
from .masked import MaskedAttack


@register("attack", "pgd")
@dataclasses.dataclass(frozen=True, kw_only=True, repr=False)
class PGD(MaskedAttack):
    """Sign steps in a mask, projected to the ball (Madry et al. 2018, section 2.1).

    Differs from the paper: the step size falls along a cosine, the best iterate is kept, and an
    utterance stops when it is fooled. It starts at the clean input.

    Args:
        steps: gradients.
        step_size: first step, as a share of epsilon.
        loss: what is climbed.
    """

    steps: int = 40
    step_size: float = 0.5
    loss: LossName = "cross-entropy"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_positive(self, "steps", "step_size")

    def search(self, active: ActiveSet) -> None:
        loss = LOSSES[self.loss]
        delta = active.zeros()
        for step in range(self.steps):
            gradient, delta = active.gradient(delta if step else None, loss, delta)
            size = self.step_size * 0.5 * (1 + math.cos(math.pi * step / self.steps))
            delta += size * active.bound * torch.sign(gradient)
            delta = self.within(active, delta, gradient)
        active.observe(delta)
