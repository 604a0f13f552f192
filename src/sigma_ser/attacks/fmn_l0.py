"""The fast minimum-norm attack for the L0 norm."""

from __future__ import annotations

import dataclasses
import math

import torch

from sigma_ser.core.registry import register

from .base import check_positive
from .losses import margin
from .minimum_norm import MinimumNormAttack, SmallestSet
from .projections import l2_normalised


@register("attack", "fmn-l0")
@dataclasses.dataclass(frozen=True, kw_only=True, repr=False)
class FMNL0(MinimumNormAttack):
    """FMN with `p = 0` (Pintor, Roli, Brendel & Biggio 2021, algorithm 1).

    Steps along the normalised gradient of the margin, projected to the `k`-sparse ball. `k`
    shrinks by the factor `1 - gamma` (at least by one) after a success and grows by `1 + gamma`
    (at least by one) otherwise; `gamma` and the step size follow a cosine schedule. This differs
    from the paper: lengths are in units of epsilon, and the first `k` is a fraction `start` of all
    units, because few steps cannot move far from the paper's linear estimate of `k`.

    Args:
        steps: number of gradient steps, at least 1.
        step_size: first step in units of `epsilon * sqrt(k)` for the first `k`, above 0.
        gamma: first relative change of `k`, above 0.
        start: first `k` as a fraction of the units that may change, above 0.
    """

    steps: int = 100
    step_size: float = 1.0
    gamma: float = 0.3
    start: float = 0.1

    def __post_init__(self) -> None:
        super().__post_init__()
        check_positive(self, "steps", "step_size", "gamma", "start")

    def shrink(self, active: SmallestSet) -> None:
        u = active.zeros()
        most = active.budget.unit_allowed(active.allowed, active.lengths, active.x.shape).sum(1)
        k = (self.start * most.to(u.dtype)).ceil()
        length = self.step_size * k.sqrt()
        for step in range(self.steps):
            cosine = 0.5 * (1 + math.cos(math.pi * step / self.steps))
            gradient, u, k, length, most = active.gradient(
                u * active.bound if step else None, margin, u, k, length, most
            )
            gamma = self.gamma * (0.01 + 0.99 * cosine)
            smaller = torch.minimum(k - 1, (k * (1 - gamma)).floor())
            smaller = torch.minimum(smaller, torch.where(active.found, active.size, k))
            larger = torch.maximum(k + 1, (k * (1 + gamma)).floor())
            larger = torch.where(active.found, torch.minimum(larger, active.size), larger)
            k = torch.where(active.fooling, smaller, larger).clamp(min=1).minimum(most)
            size = (length * (0.01 + 0.99 * cosine))[:, None, None]
            u = u + size * l2_normalised(gradient * active.bound)
            u = active.clip(u * active.bound) / active.bound.clamp(min=1e-30)
            u = u * active.pick(u.abs(), k.long(), active.allowed)
        active.observe(u * active.bound)
