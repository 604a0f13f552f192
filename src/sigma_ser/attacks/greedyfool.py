"""GreedyFool: grow the support until the attack succeeds, then remove needless units."""

from __future__ import annotations

import dataclasses

import torch

from sigma_ser.core.registry import register

from .base import check_positive
from .losses import margin
from .minimum_norm import MinimumNormAttack, SmallestSet


@register("attack", "greedyfool")
@dataclasses.dataclass(frozen=True, kw_only=True, repr=False)
class GreedyFool(MinimumNormAttack):
    """GreedyFool (Dong, Chen, Bao, Qian, Yuan, Zhang, Yu & Chen 2020, section 3).

    Stage 1 adds the units of largest `|g| * scale` in each round and takes a sign step on the
    whole support. Stage 2 removes the units with the smallest `|delta| / epsilon`, several at
    once; the number is halved when the remaining perturbation no longer succeeds. This differs from
    the paper: no distortion network, which is specific to images.

    Args:
        steps: rounds of stage 1, at least 1.
        step_size: Linf step as a fraction of epsilon, above 0.
        reductions: forward passes of stage 2, at least 0.
    """

    steps: int = 50
    step_size: float = 0.5
    reductions: int = 20

    def __post_init__(self) -> None:
        super().__post_init__()
        check_positive(self, "steps", "step_size")

    def shrink(self, active: SmallestSet) -> None:
        self._grow(active)
        self._reduce(active)

    def _grow(self, active: SmallestSet) -> None:
        delta, support = active.zeros(), torch.zeros_like(active.allowed)
        for step in range(self.steps):
            gradient, delta, support = active.gradient(
                delta if step else None, margin, delta, support
            )
            # Utterances that already succeed do not change until stage 2.
            growing = ~active.found
            each = (active.units + self.steps - 1) // self.steps * growing
            support = support | active.pick(active.gain(gradient), each, active.allowed & ~support)
            step_along = self.step_size * active.bound * torch.sign(gradient)
            moved = active.clip(delta + torch.where(support, step_along, 0.0))
            delta = torch.where(growing[:, None, None], moved, delta)
        active.observe(delta)

    def _reduce(self, active: SmallestSet) -> None:
        share = torch.full_like(active.best_margin, 0.5)
        for _ in range(self.reductions):
            whole, size = active.smallest, active.size
            count = (size * share).long().clamp(min=1).minimum(size - 1) * active.found
            moved = whole.abs() / active.bound.clamp(min=1e-30)
            dropped = active.pick(-moved, count, whole != 0)
            (share,) = active.observe(whole * ~dropped, share)
            share = torch.where(active.fooling, share, 0.5 * share)
