"""CornerSearch: rank single changes, then combine them at random; gradient-free."""

from __future__ import annotations

import dataclasses
import itertools

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from sigma_ser.core.registry import register

from .active_set import ActiveSet
from .base import check_positive
from .black_box import BlackBoxAttack, QueriedSet
from .minimum_norm import MinimumNormAttack, SmallestSet
from .problem import Problem


class QueriedSmallestSet(QueriedSet, SmallestSet):
    """A `SmallestSet` that logs its queries."""


@register("attack", "cornersearch")
@dataclasses.dataclass(frozen=True, kw_only=True, repr=False)
class CornerSearch(BlackBoxAttack, MinimumNormAttack):
    """CornerSearch in the Linf ball, black box (Croce & Hein 2019, section 3, algorithm 1).

    Stage 1 changes one unit at a time to `+-epsilon` and ranks the units by the resulting margin.
    Stage 2 changes `k` of the `N` best units together: rank `i` is sampled with probability
    `(2 N - 2 i + 1) / N^2` (eq. 5), and `k` grows until the attack succeeds. This differs from the
    paper, whose images have a few hundred pixels: stage 1 tests a random sample of the units, and
    `k` grows by a factor. With decision feedback all units have the same rank.

    Args:
        probes: queries of stage 1, at least 1; each tested unit takes two, one per sign.
        candidates: number `N` of best units that stage 2 combines; raised to twice `k` if smaller.
        tries: queries per value of `k`, at least 1.
        growth: factor from one `k` to the next, above 1.
    """

    probes: int = 1000
    candidates: int = 100
    tries: int = 50
    growth: float = 1.5

    def __post_init__(self) -> None:
        super().__post_init__()
        check_positive(self, "probes", "candidates", "tries")
        check_positive(self, "growth", above=1)

    def active_set(self, problem: Problem, rows: Int[Tensor, "A"]) -> QueriedSmallestSet:
        return QueriedSmallestSet(problem, rows, self.feedback)

    def search(self, active: ActiveSet) -> None:
        # `k` never exceeds the budget, so no final projection is needed.
        assert isinstance(active, SmallestSet)
        self.shrink(active)

    def shrink(self, active: SmallestSet) -> None:
        units = sample_units(active, -(-self.probes // 2))
        signs = active.x.new_zeros(units.shape)
        alone = torch.full_like(signs, -torch.inf)
        for query in itertools.count():
            tested_units = (units >= 0).sum(1)
            size = self._size(query, tested_units, tested_units.minimum(active.units))
            units, signs, alone, size = active.dismiss(
                active.found | (size < 1), units, signs, alone, size
            )
            # Single units with both signs first; then combinations, each unit with its better sign.
            probing = (size == 1)[:, None]
            chosen = self._sample(active, alone, units, size)
            chosen[:, query // 2 : query // 2 + 1] |= probing
            tried = torch.where(probing, 1.0 if query % 2 == 0 else -1.0, signs)
            units, signs, alone, chosen, tried, probing = active.observe(
                corners(active, units, tried, chosen), units, signs, alone, chosen, tried, probing
            )
            better = probing & chosen & (active.margins[:, None] > alone)
            alone = torch.where(better, active.margins[:, None], alone)
            signs = torch.where(better, tried, signs)

    def _size(
        self, query: int, units: Int[Tensor, "A"], most: Int[Tensor, "A"]
    ) -> Int[Tensor, "A"]:
        """Number of units that change in this query: 1 in stage 1, then up to `most`, finally 0.

        Args:
            query: index of the query, from 0.
            units: number of units that stage 1 tests.
            most: maximum number of units that may change together.
        """
        sizes = [1, 2]
        while sizes[-1] < int(most.max()):
            sizes.append(max(sizes[-1] + 1, int(sizes[-1] * self.growth)))
        ladder = torch.tensor(sizes, device=units.device)
        after = query - 2 * units
        place = 1 + after.div(self.tries, rounding_mode="floor").clamp(0)
        last = len(sizes) - 1
        # The last size is the whole budget, also if it is not in the sequence of sizes.
        smaller = ladder[(place - 1).clamp(max=last)]
        combined = torch.where(smaller < most, ladder[place.clamp(max=last)].minimum(most), 0)
        return torch.where(after < 0, 1, combined)

    def _sample(
        self,
        active: SmallestSet,
        alone: Float[Tensor, "A P"],
        units: Int[Tensor, "A P"],
        size: Int[Tensor, "A"],
    ) -> Bool[Tensor, "A P"]:
        """A random choice of `size` units in stage 2, in which better units are more likely."""
        sampled = torch.zeros_like(units, dtype=torch.bool)
        for row in (size > 1).nonzero()[:, 0].tolist():
            n = min(max(self.candidates, 2 * int(size[row])), int((units[row] >= 0).sum()))
            rank = torch.arange(1, n + 1, dtype=alone.dtype)
            leaders = alone[row].argsort(descending=True, stable=True)[:n]
            chosen = torch.multinomial(
                (2 * n - 2 * rank + 1) / n**2,
                int(size[row]),
                generator=active.noise.generators[row],
            )
            sampled[row, leaders[chosen.to(leaders.device)]] = True
        return sampled


def sample_units(active: ActiveSet, most: int) -> Int[Tensor, "A P"]:
    """Up to `most` random units of each utterance that may change, padded with -1."""
    most = min(most, int(active.choosable.sum(1).max()))
    units = torch.full((len(active), most), -1)
    for row, rng in enumerate(active.noise.generators):
        choosable = active.choosable[row].nonzero()[:, 0].cpu()
        chosen = choosable[torch.randperm(len(choosable), generator=rng)[:most]]
        units[row, : len(chosen)] = chosen
    return units.to(active.x.device)


def corners(
    active: ActiveSet,
    units: Int[Tensor, "A P"],
    signs: Float[Tensor, "A P"],
    chosen: Bool[Tensor, "A P"],
) -> Float[Tensor, "A T D"]:
    """The perturbation with the chosen units at the bound of their sign."""
    width = active.choosable.shape[1]
    # Units that are not chosen are written to one extra column, which is dropped.
    place = torch.where(chosen & (units >= 0), units, width)
    moved = signs.new_zeros(len(units), width + 1).scatter_(1, place, signs)[:, :width]
    positive = active.budget.expand(moved > 0, active.lengths, active.x.shape)
    negative = active.budget.expand(moved < 0, active.lengths, active.x.shape)
    delta = torch.where(positive, active.upper, torch.where(negative, active.lower, 0.0))
    return delta * active.allowed
