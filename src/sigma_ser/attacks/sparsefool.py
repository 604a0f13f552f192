"""SparseFool: the boundary is flat nearby, so one coordinate after the other goes to its bound."""

from __future__ import annotations

import dataclasses

import torch
from jaxtyping import Float
from torch import Tensor

from sigma_ser.core.registry import register

from .base import check_positive
from .losses import margin
from .minimum_norm import MinimumNormAttack, SmallestSet


@register("attack", "sparsefool")
@dataclasses.dataclass(frozen=True, kw_only=True, repr=False)
class SparseFool(MinimumNormAttack):
    """SparseFool (Modas, Moosavi-Dezfooli & Frossard 2019, algorithms 1 and 2).

    DeepFool finds a boundary point, scaled by `overshoot` (the paper's lambda) away from where it
    started; there the boundary is taken to be the plane with the gradient `w` of the margin as
    its normal. The linear solver moves one coordinate at a time in order of `|w|`, each as far as
    its bounds allow, until the plane is reached; then all over again from there. Everything is
    measured in units of epsilon. Differs from the paper: DeepFool steps to the likeliest other
    class, with one gradient, instead of the nearest of all `C - 1` planes.

    Args:
        steps: rounds of plane and solver.
        overshoot: lambda.
        deepfool_steps: gradients of each DeepFool run.
    """

    granularities = ("element",)

    steps: int = 10
    overshoot: float = 3.0
    deepfool_steps: int = 5

    def __post_init__(self) -> None:
        super().__post_init__()
        check_positive(self, "steps", "overshoot", "deepfool_steps")

    def shrink(self, active: SmallestSet) -> None:
        u = active.zeros()
        for _ in range(self.steps):
            way = self._deepfool(active, u)
            normal, _ = active.slope((u + way) * active.bound, margin)
            u = along_the_plane(active, u, normal * active.bound, way)
            (u,) = active.observe(u * active.bound, u)

    def _deepfool(self, active: SmallestSet, u: Float[Tensor, "A T D"]) -> Float[Tensor, "A T D"]:
        """`lambda` times the way to the boundary (Moosavi-Dezfooli et al. 2016, algorithm 1)."""
        way = active.zeros()
        for _ in range(self.deepfool_steps):
            gradient, value = active.slope((u + way) * active.bound, margin)
            gradient = gradient * active.bound
            square = gradient.square().sum((1, 2)).clamp(min=1e-30)
            # Whoever is over the boundary already does not move.
            step = (-value).clamp(min=0.0) * 1.02 / square + (value < 0) * 1e-6
            way = way + step[:, None, None] * gradient
        return self.overshoot * way


def along_the_plane(
    active: SmallestSet,
    u: Float[Tensor, "A T D"],
    normal: Float[Tensor, "A T D"],
    way: Float[Tensor, "A T D"],
) -> Float[Tensor, "A T D"]:
    """Move coordinates in order of `|normal|` until `<normal, moved - u> = <normal, way>`."""
    bound = active.bound.clamp(min=1e-30)
    ends = torch.where(normal > 0, active.upper / bound, active.lower / bound).expand_as(u)
    rooms = (ends - u).masked_fill(~active.allowed, 0.0).flatten(1)
    flat = normal.flatten(1)
    # More than the budget's elements would be cut off again, so no full sort is needed.
    count = min(int(active.units.max()), flat.shape[1])
    leaders = flat.abs().masked_fill(rooms == 0, 0.0).topk(count, dim=1).indices
    room, slope = rooms.gather(1, leaders), flat.gather(1, leaders)
    # Each utterance has a k of its own, whatever its neighbours have.
    beyond = torch.arange(count, device=flat.device)[None, :] >= active.units[:, None]
    room = room.masked_fill(beyond, 0.0)
    needed = (normal * way).sum((1, 2))[:, None]
    gains = room * slope
    left = needed - (gains.cumsum(1) - gains)
    # The last coordinate goes only as far as is needed, all before it to their bounds.
    share = (left / gains.clamp(min=1e-30)).clamp(0.0, 1.0)
    moved = torch.zeros_like(flat).scatter_(1, leaders, room * share * (gains > 0))
    return u + moved.view_as(u)
