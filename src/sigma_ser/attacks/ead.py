"""EAD: elastic-net perturbations by iterative shrinkage-thresholding."""

from __future__ import annotations

import dataclasses
from typing import Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor

from sigma_ser.core.errors import AttackError
from sigma_ser.core.registry import register

from .base import check_positive
from .losses import cw_hinge
from .minimum_norm import MinimumNormAttack, SmallestSet, cut_to_largest

Rule = Literal["l1", "elastic-net"]


@register("attack", "ead")
@dataclasses.dataclass(frozen=True, kw_only=True, repr=False)
class EAD(MinimumNormAttack):
    """EAD in the Linf ball (Chen, Sharma, Zhang, Yi & Hsieh 2018, algorithm 1).

    Minimises `c max(-margin, 0) + |u|_2^2 + beta |u|_1` by ISTA: a gradient step on the smooth
    part, then soft thresholding by `beta` (eq. 5, 6); the step size decays as
    `sqrt(1 - i / steps)`. `c` is set by bisection per utterance: multiplied by 10 until an iterate
    succeeds, then reduced towards the smallest value that does. The decision `rule` selects one
    of the successful iterates, which is projected to the budget; an iterate within the budget is
    a candidate as well. This differs from the paper: `u` is the perturbation in units of epsilon,
    `c` is in units of the largest element of the first gradient, and the default schedule is
    shorter (the paper runs 9 searches of 1000 steps).

    Args:
        steps: gradient steps per search, at least 1.
        searches: number of values of `c`, at least 1.
        step_size: first step, above 0.
        beta: weight of the L1 norm and threshold of each step, above 0 (paper: 0.001 to 0.1).
        first_weight: first `c`, above 0.
        cut_every: steps between two projections to the budget, at least 1; unused without one.
        rule: `l1` selects the smallest L1 norm, `elastic-net` the smallest objective.
    """

    steps: int = 40
    searches: int = 6
    step_size: float = 0.05
    beta: float = 0.02
    first_weight: float = 3.0
    cut_every: int = 10
    rule: Rule = "l1"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_positive(self, "steps", "searches", "step_size", "beta", "first_weight", "cut_every")
        if self.rule not in get_args(Rule):
            raise AttackError(f"rule must be l1 or elastic-net, got {self.rule!r}")

    def shrink(self, active: SmallestSet) -> None:
        weight = torch.full_like(active.best_margin, self.first_weight)
        low, high = torch.zeros_like(weight), torch.full_like(weight, torch.inf)
        least, least_size = active.zeros(), high.clone()
        unit = torch.ones_like(weight)
        for search in range(self.searches):
            u, fooled = active.zeros(), torch.zeros_like(active.found)
            for step in range(self.steps):
                gradient, u, fooled, weight, low, high, least, least_size, unit = active.gradient(
                    u * active.bound if search or step else None,
                    cw_hinge, u, fooled, weight, low, high, least, least_size, unit,
                )  # fmt: skip
                pull = gradient * active.bound
                if search == step == 0:
                    unit = pull.abs().amax((1, 2)).clamp(min=1e-30)
                fooled, least, least_size = self._decided(active, u, fooled, least, least_size)
                size = self.step_size * (1 - step / self.steps) ** 0.5
                moved = u + size * ((weight / unit)[:, None, None] * pull - 2 * u)
                u = torch.nn.functional.softshrink(moved, self.beta)
                u = active.clip(u * active.bound) / active.bound.clamp(min=1e-30)
                if step % self.cut_every == 0 and not active.problem.minimise:
                    cut = cut_to_largest(active, u * active.bound)
                    u, fooled, weight, low, high, least, least_size, unit = active.observe(
                        cut, u, fooled, weight, low, high, least, least_size, unit
                    )
            u, fooled, weight, low, high, least, least_size, unit = active.observe(
                u * active.bound, u, fooled, weight, low, high, least, least_size, unit
            )
            fooled, least, least_size = self._decided(active, u, fooled, least, least_size)
            high = torch.where(fooled, weight, high)
            low = torch.where(fooled, low, weight)
            weight = torch.where(high.isinf(), 10 * weight, 0.5 * (low + high))
        active.observe(cut_to_largest(active, least * active.bound))

    def _decided(
        self,
        active: SmallestSet,
        u: Float[Tensor, "A T D"],
        fooled: Tensor,
        least: Float[Tensor, "A T D"],
        least_size: Float[Tensor, "A"],
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Whether this search has succeeded, and the smallest successful perturbation by `rule`."""
        size = u.abs().sum((1, 2))
        if self.rule == "elastic-net":
            size = u.square().sum((1, 2)) + self.beta * size
        smaller = active.fooling & (size < least_size)
        least = torch.where(smaller[:, None, None], u, least)
        return fooled | active.fooling, least, torch.where(smaller, size, least_size)
