"""Sparse-RS: random search over k-sparse corners, with logits only."""

from __future__ import annotations

import dataclasses

import torch
from jaxtyping import Bool
from torch import Tensor

from sigma_ser.core.registry import register

from .active_set import ActiveSet
from .base import check_positive
from .black_box import BlackBoxAttack

# The share of the support that is drawn anew: 0.8 over these divisors, up to these queries of
# 10,000 (Croce et al. 2022, appendix A).
_SHARE = 0.8
_DIVISORS = (
    (0, 1), (50, 2), (200, 4), (500, 5), (1000, 6), (2000, 8), (4000, 10), (6000, 12), (8000, 15),
    (10_000, 20),
)  # fmt: skip


@register("attack", "sparse-rs")
@dataclasses.dataclass(frozen=True, kw_only=True, repr=False)
class SparseRS(BlackBoxAttack):
    """Sparse-RS (Croce, Andriushchenko, Singh, Flammarion & Hein 2022, algorithm 1), black box.

    Starts at a random corner. Each query draws a share of its support anew, with new signs, and
    keeps what does not make the margin fall; the share falls with the queries. Where only
    decisions are told it walks at random, since all that fails is alike.

    Args:
        queries: forward passes.
    """

    queries: int = 1000

    def __post_init__(self) -> None:
        super().__post_init__()
        check_positive(self, "queries")

    def search(self, active: ActiveSet) -> None:
        signs = active.noise.signs(active.x)
        support = active.support(active.noise.uniform(active.x) + 1.0)
        signs, support = active.observe(active.extreme(signs, support), signs, support)
        for query in range(1, self.queries):
            tried, fresh = redrawn(active, support, redrawn_share(query, self.queries))
            turned = torch.where(fresh, active.noise.signs(active.x), signs)
            signs, support, tried, turned = active.observe(
                active.extreme(turned, tried), signs, support, tried, turned
            )
            accepted = (active.margins >= active.best_margin)[:, None, None]
            signs = torch.where(accepted, turned, signs)
            support = torch.where(accepted, tried, support)


def redrawn_share(query: int, queries: int) -> float:
    """Share of the support that query number `query` of `queries` draws anew."""
    scaled = 10_000 * query // queries
    return _SHARE / next(divisor for last, divisor in _DIVISORS if scaled <= last)


def redrawn(
    active: ActiveSet, support: Bool[Tensor, "A T D"], share: float
) -> tuple[Bool[Tensor, "A T D"], Bool[Tensor, "A T D"]]:
    """A support with a share of its units, at least one, drawn anew; and the new elements."""
    count = (active.units * share).long().clamp(min=1)
    leaving = active.pick(active.noise.uniform(active.x) + 1.0, count, support)
    staying = support & ~leaving
    # Those that leave may come back, with another sign: a budget may cover all that there is.
    entering = active.pick(
        active.noise.uniform(active.x) + 1.0,
        active.budget.touched(leaving, active.lengths),
        active.allowed & ~staying,
    )
    return staying | entering, entering
