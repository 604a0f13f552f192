"""The random control of every comparison."""

from __future__ import annotations

import dataclasses

from jaxtyping import Float
from torch import Tensor

from sigma_ser.core.registry import register

from .active_set import ActiveSet
from .base import SparseAttack, check_positive


def random_corner(active: ActiveSet) -> Float[Tensor, "A T D"]:
    """A random support of `k` units with `delta = +-epsilon`, signs drawn at random."""
    support = active.support(active.noise.uniform(active.x) + 1.0)
    return active.extreme(active.noise.signs(active.x), support)


@register("attack", "random")
@dataclasses.dataclass(frozen=True, kw_only=True, repr=False)
class RandomCorner(SparseAttack):
    """Random support and random signs: the control that every attack must beat.

    Args:
        draws: number of random perturbations, at least 1.
    """

    draws: int = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        check_positive(self, "draws")

    def search(self, active: ActiveSet) -> None:
        for _ in range(self.draws):
            active.observe(random_corner(active))
