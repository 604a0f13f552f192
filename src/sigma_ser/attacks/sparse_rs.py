"""Sparse-RS: random search over the vertices of the k-sparse ball; gradient-free."""

from __future__ import annotations

import dataclasses

import torch
from jaxtyping import Bool
from torch import Tensor

from sigma_ser.core.registry import register

from .active_set import ActiveSet
from .base import check_positive
from .black_box import BlackBoxAttack

# Schedule of the resampled fraction of the support: 0.8 divided by the divisor, up to the given
# query of 10,000 (Croce et al. 2022, appendix A).
_SHARE = 0.8
_DIVISORS = (
    (0, 1), (50, 2), (200, 4), (500, 5), (1000, 6), (2000, 8), (4000, 10), (6000, 12), (8000, 15),
    (10_000, 20),
)  # fmt: skip


@register("attack", "sparse-rs")
@dataclasses.dataclass(frozen=True, kw_only=True, repr=False)
class SparseRS(BlackBoxAttack):
    """Sparse-RS, black box (Croce, Andriushchenko, Singh, Flammarion & Hein 2022, algorithm 1).

    Starts at a random support with random signs. Each query resamples a fraction of the support
    and its signs, and is accepted if the margin does not decrease; the fraction decreases with
    the number of queries (appendix A). With decision feedback all unsuccessful candidates have
    the same margin, so the search is a random walk.

    Args:
        queries: number of forward passes, at least 1.
    """

    queries: int = 1000

    def __post_init__(self) -> None:
        super().__post_init__()
        check_positive(self, "queries")

    def search(self, active: ActiveSet) -> None:
        signs = active.noise.signs(active.x)
        support = active.support(active.noise.uniform(active.x) + 1.0)
        signs, support = active.observe(active.extreme(signs, support), signs, support)
        # Of this search alone: in an ensemble, `best_margin` may be that of an earlier member.
        reached = active.margins
        for query in range(1, self.queries):
            tried, fresh = resampled(active, support, resampled_share(query, self.queries))
            turned = torch.where(fresh, active.noise.signs(active.x), signs)
            signs, support, tried, turned, reached = active.observe(
                active.extreme(turned, tried), signs, support, tried, turned, reached
            )
            accepted = (active.margins >= reached)[:, None, None]
            reached = torch.maximum(reached, active.margins)
            signs = torch.where(accepted, turned, signs)
            support = torch.where(accepted, tried, support)


def resampled_share(query: int, queries: int) -> float:
    """Fraction of the support that query `query` of `queries` resamples."""
    scaled = 10_000 * query // queries
    return _SHARE / next(divisor for last, divisor in _DIVISORS if scaled <= last)


def resampled(
    active: ActiveSet, support: Bool[Tensor, "A T D"], share: float
) -> tuple[Bool[Tensor, "A T D"], Bool[Tensor, "A T D"]]:
    """The support after resampling a fraction of its units, at least one; and the new elements."""
    count = (active.units * share).long().clamp(min=1)
    leaving = active.pick(active.noise.uniform(active.x) + 1.0, count, support)
    staying = support & ~leaving
    # Removed units may be selected again with another sign, because `k` may be all units.
    entering = active.pick(
        active.noise.uniform(active.x) + 1.0,
        active.budget.touched(leaving, active.lengths),
        active.allowed & ~staying,
    )
    return staying | entering, entering
