"""SparseFool: linearise the decision boundary and change one coordinate at a time."""

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

    DeepFool finds a boundary point, whose displacement is multiplied by `overshoot` (lambda in
    the paper); there the boundary is approximated by the plane with the gradient `w` of the
    margin as its normal. The linear solver changes one coordinate at a time in descending order
    of `|w|`, each up to its bound, until the plane is reached, and the procedure repeats from
    there. This differs from the paper: distances are in units of epsilon, and DeepFool steps
    towards the class with the largest other logit, which takes one gradient, instead of the nearest
    of `C - 1` planes.

    Args:
        steps: rounds of linearisation and linear solver, at least 1.
        overshoot: lambda, above 0.
        deepfool_steps: gradients per DeepFool run, at least 1.
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
            displacement = self._deepfool(active, u)
            normal, _ = active.slope((u + displacement) * active.bound, margin)
            u = along_the_plane(active, u, normal * active.bound, displacement)
            (u,) = active.observe(u * active.bound, u)

    def _deepfool(self, active: SmallestSet, u: Float[Tensor, "A T D"]) -> Float[Tensor, "A T D"]:
        """`lambda` times the DeepFool step (Moosavi-Dezfooli et al. 2016, algorithm 1)."""
        displacement = active.zeros()
        for _ in range(self.deepfool_steps):
            gradient, value = active.slope((u + displacement) * active.bound, margin)
            gradient = gradient * active.bound
            square = gradient.square().sum((1, 2)).clamp(min=1e-30)
            # Utterances that are already beyond the boundary do not move.
            length = (-value).clamp(min=0.0) * 1.02 / square
            length = torch.where(value < 0, length + 1e-6, length)
            displacement = displacement + length[:, None, None] * gradient
        return self.overshoot * displacement


def along_the_plane(
    active: SmallestSet,
    u: Float[Tensor, "A T D"],
    normal: Float[Tensor, "A T D"],
    displacement: Float[Tensor, "A T D"],
) -> Float[Tensor, "A T D"]:
    """Change coordinates in order of `|normal|` until the plane through `u + displacement`."""
    bound = active.bound.clamp(min=1e-30)
    ends = torch.where(normal > 0, active.upper / bound, active.lower / bound).expand_as(u)
    slacks = (ends - u).masked_fill(~active.allowed, 0.0).flatten(1)
    flat = normal.flatten(1)
    # Elements beyond the budget would be removed again, so a full sort is not needed.
    count = min(int(active.units.max()), flat.shape[1])
    leaders = flat.abs().masked_fill(slacks == 0, 0.0).topk(count, dim=1).indices
    slack, slope = slacks.gather(1, leaders), flat.gather(1, leaders)
    # Each utterance has its own `k`.
    beyond = torch.arange(count, device=flat.device)[None, :] >= active.units[:, None]
    slack = slack.masked_fill(beyond, 0.0)
    needed = (normal * displacement).sum((1, 2))[:, None]
    gains = slack * slope
    remaining = needed - (gains.cumsum(1) - gains)
    # The last coordinate moves only as far as needed, all previous ones to their bounds.
    share = (remaining / gains.clamp(min=1e-30)).clamp(0.0, 1.0)
    moved = torch.zeros_like(flat).scatter_(1, leaders, slack * share * (gains > 0))
    return u + moved.view_as(u)
