"""Projected gradient descent inside a mask: the standard inner attack of SIGMA."""

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
    """PGD inside a mask (Madry et al. 2018, section 2.1).

    `delta <- P(delta + alpha_i sign(g))` with the projection `P` to the Linf ball, from
    `delta = 0`. This differs from the paper: the step size follows a cosine schedule
    `alpha_i = step_size * epsilon * (1 + cos(pi i / steps)) / 2`, the start is not random, the
    best iterate is returned, and an utterance stops at its first success.

    Args:
        steps: number of gradient steps, at least 1.
        step_size: first step as a fraction of epsilon, above 0.
        loss: maximised loss, see `losses`.
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
