"""Homotopy: the L0 penalty decreases until the attack succeeds."""

from __future__ import annotations

import dataclasses

import torch
from jaxtyping import Float
from torch import Tensor

from sigma_ser.core.registry import register

from .base import check_positive
from .losses import cw_hinge
from .minimum_norm import MinimumNormAttack, SmallestSet

# The length of a step in units of the bound at which it is cut; sums of gains stay finite.
_LONGEST = 1e18


@register("attack", "homotopy")
@dataclasses.dataclass(frozen=True, kw_only=True, repr=False)
class Homotopy(MinimumNormAttack):
    """Homotopy attack (Zhu, Chen & Wang 2021, algorithms 1 to 3).

    Minimises `max(-margin, 0) + lambda |u|_0` in the ball for a decreasing sequence of `lambda`
    with warm starts; the first `lambda` admits exactly one unit. The inner solver is the
    nonmonotone accelerated proximal gradient method (Li & Lin 2015): a gradient step from an
    extrapolated point, then the proximal map, which keeps a unit only if that lowers the
    objective. A point with a larger objective than the running mean is rejected. Then sign steps
    follow on the fixed support. The attack ends at the first `lambda` that succeeds. This differs
    from Li & Lin: after a rejection the extrapolation restarts, without a second gradient.

    Args:
        stages: number of values of lambda, at least 1.
        inner_steps: proximal steps per stage, at least 1.
        support_steps: sign steps on the fixed support per stage, at least 0.
        decay: factor from one lambda to the next, in (0, 1).
        memory: weight of past values in the running mean of the objective, in [0, 1].
    """

    stages: int = 40
    inner_steps: int = 2
    support_steps: int = 1
    decay: float = 0.85
    memory: float = 0.85

    def __post_init__(self) -> None:
        super().__post_init__()
        check_positive(self, "stages", "inner_steps", "decay")

    def shrink(self, active: SmallestSet) -> None:
        (gradient,) = active.gradient(None, cw_hinge)
        # The step size moves the element with the largest gradient to its bound, `u = 1`.
        pace = 1 / (gradient * active.bound).abs().amax((1, 2)).clamp(min=1e-30)
        start = gradient * active.bound * pace[:, None, None]
        threshold = active.budget.unit_scores(start.square(), active.lengths).amax(1)
        u = active.zeros()
        for _ in range(self.stages):
            u, pace, threshold = self._solved(active, u, pace, threshold)
            for _ in range(self.support_steps):
                gradient, u, pace, threshold = active.gradient(
                    u * active.bound, cw_hinge, u, pace, threshold
                )
                u = active.clip((u + torch.sign(gradient) * (u != 0)) * active.bound)
                u = u / active.bound.clamp(min=1e-30)
            u, pace, threshold = active.observe(u * active.bound, u, pace, threshold)
            u, pace, threshold = active.dismiss(active.found, u, pace, threshold)
            threshold = self.decay * threshold

    def _solved(
        self,
        active: SmallestSet,
        u: Float[Tensor, "A T D"],
        pace: Float[Tensor, "A"],
        threshold: Float[Tensor, "A"],
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Nonmonotone accelerated proximal gradient steps for one lambda."""
        before, momentum = u, torch.ones_like(pace)
        mean, mass = torch.full_like(pace, torch.inf), torch.zeros_like(pace)
        for _ in range(self.inner_steps):
            following = 0.5 * (1 + (1 + 4 * momentum.square()).sqrt())
            share = ((momentum - 1) / following)[:, None, None]
            y = active.clip((u + share * (u - before)) * active.bound)
            gradient, u, before, pace, threshold, following, mean, mass, y = active.gradient(
                y, cw_hinge, u, before, pace, threshold, following, mean, mass, y, counts=False
            )
            y = y / active.bound.clamp(min=1e-30)
            z = proximal_map(active, y + pace[:, None, None] * gradient * active.bound, threshold)
            u, before, pace, threshold, following, mean, mass, z = active.observe(
                z * active.bound, u, before, pace, threshold, following, mean, mass, z
            )
            price = threshold / (2 * pace)
            size = active.budget.touched(z != 0, active.lengths)
            hinge = (-active.margins * active.spread_factor).clamp(min=0.0)
            objective = hinge + price * size
            accepted = objective <= mean
            mean, mass = self._averaged(mean, mass, objective, accepted)
            before, u = u, torch.where(accepted[:, None, None], z, u)
            momentum = torch.where(accepted, following, 1.0)
        return u, pace, threshold

    def _averaged(
        self,
        mean: Float[Tensor, "A"],
        mass: Float[Tensor, "A"],
        objective: Float[Tensor, "A"],
        accepted: Tensor,
    ) -> tuple[Float[Tensor, "A"], Float[Tensor, "A"]]:
        """The running mean of accepted objectives and its weight (`c` and `q` in Li & Lin 2015)."""
        past = torch.where(mass > 0, self.memory * mass * mean, 0.0)
        grown = self.memory * mass + 1
        return (
            torch.where(accepted, (past + objective) / grown, mean),
            torch.where(accepted, grown, mass),
        )


def proximal_map(
    active: SmallestSet, point: Float[Tensor, "A T D"], threshold: Float[Tensor, "A"]
) -> Float[Tensor, "A T D"]:
    """Proximal map of `lambda |u|_0` in the ball: keeps units whose gain reaches `threshold`."""
    bound = active.bound.clamp(min=1e-30)
    # After a tiny gradient a step can be so long that its square overflows.
    point = point.clamp(-_LONGEST, _LONGEST)
    clipped = active.clip(point * active.bound) / bound
    # The difference of squares `point^2 - (point - clipped)^2`, without their cancellation.
    gain = (clipped * (2 * point - clipped)).clamp(min=0.0) * active.allowed
    units = active.budget.unit_scores(gain, active.lengths)
    count = (units >= threshold[:, None]).sum(1)
    count = count.clamp(min=1).minimum(active.units)
    return clipped * active.pick(gain, count, active.allowed)
