"""The Jacobian-based saliency map attack, untargeted or targeted, in both directions."""

from __future__ import annotations

import dataclasses
from typing import Literal, get_args

import torch
from jaxtyping import Float, Int
from torch import Tensor

from sigma_ser.core.errors import AttackError
from sigma_ser.core.registry import register

from .active_set import ActiveSet
from .base import SparseAttack, check_positive
from .losses import largest_other

Variant = Literal["second-best", "maximal"]


@register("attack", "jsma")
@dataclasses.dataclass(frozen=True, kw_only=True, repr=False)
class JSMA(SparseAttack):
    """JSMA (Papernot, McDaniel, Jha, Fredrikson, Celik & Swami 2016, algorithm 3, eq. 8 and 9).

    The saliency of an element for class `t` is `a * |b|` if `a = dz_t/dx` and `b = d sum_{j != t}
    z_j / dx` have opposite signs, else 0. Each step changes the most salient units by
    `theta * epsilon` in the direction of `a`; a unit changes only once. This differs from the
    paper: both directions are allowed (the paper fixes +theta or -theta), and units are selected
    one by one instead of in pairs.

    Args:
        steps: number of rounds, at least 1; each changes an equal part of the budget, at least
            one unit.
        theta: size of a change as a fraction of epsilon, in (0, 1].
        variant: `second-best` uses the class with the largest other logit at each step; `maximal`
            takes the maximum over all classes per element (M-JSMA, Wiyatno & Xu 2018). With a
            target both variants use the target.
    """

    steps: int = 50
    theta: float = 1.0
    variant: Variant = "second-best"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_positive(self, "steps", "theta")
        if self.theta > 1:
            raise AttackError(
                f"theta is a fraction of epsilon and must be at most 1, got {self.theta}"
            )
        if self.variant not in get_args(Variant):
            raise AttackError(f"variant must be second-best or maximal, got {self.variant!r}")

    def search(self, active: ActiveSet) -> None:
        delta = active.zeros()
        for step in range(self.steps):
            total, delta = active.gradient(delta if step else None, _all_logits, delta)
            saliency = self._saliency(active, delta, total)
            goal = (active.units * (step + 1) // self.steps).clamp(min=1)
            changed = active.budget.touched(delta != 0, active.lengths)
            gain = active.gain(saliency)
            chosen = active.pick(gain, goal - changed, active.allowed & (delta == 0))
            delta += self.theta * active.extreme(saliency, chosen)
        active.observe(delta)

    def _saliency(
        self, active: ActiveSet, delta: Float[Tensor, "A T D"], total: Float[Tensor, "A T D"]
    ) -> Float[Tensor, "A T D"]:
        """The saliency of each element, with the sign of the change."""
        ranks: tuple[int | None, ...] = (None,)
        if self.variant == "maximal" and active.target is None:
            ranks = tuple(range(active.rivals.shape[1]))
        best = active.zeros()
        for rank in ranks:
            (a,) = active.gradient(delta, _wanted_logit, rival=rank, counts=False)
            b = total - a
            saliency = torch.where(a * b < 0, a * b.abs(), 0.0)
            best = torch.where(saliency.abs() > best.abs(), saliency, best)
        return best


def _all_logits(
    logits: Float[Tensor, "A C"], labels: Int[Tensor, "A"], target: Int[Tensor, "A"] | None
) -> Float[Tensor, "A"]:
    del labels, target
    return logits.sum(1)


def _wanted_logit(
    logits: Float[Tensor, "A C"], labels: Int[Tensor, "A"], target: Int[Tensor, "A"] | None
) -> Float[Tensor, "A"]:
    if target is None:
        return largest_other(logits, labels)
    return logits.gather(1, target[:, None])[:, 0]
