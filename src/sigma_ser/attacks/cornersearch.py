"""CornerSearch: single changes are ranked, then combined at random; no gradient."""

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
from .task import Task


class QueriedSmallestSet(QueriedSet, SmallestSet):
    """Looks for the fewest units, and logs what it asks."""


@register("attack", "cornersearch")
@dataclasses.dataclass(frozen=True, kw_only=True, repr=False)
class CornerSearch(BlackBoxAttack, MinimumNormAttack):
    """CornerSearch (Croce & Hein 2019, section 3, algorithm 1) in the Linf ball, black box.

    Stage 1 moves one unit at a time to a corner of the ball and ranks the units by the margin
    that is reached. Stage 2 moves `k` of the `N` best together: rank `i` is drawn with
    probability `(2 N - 2 i + 1) / N^2` (eq. 5), and `k` grows until the victim is fooled.
    Differs from the paper, whose images have a few hundred pixels: stage 1 tries a random sample
    of units, and `k` grows by a factor. Where only decisions are told, all units rank alike.

    Args:
        probes: queries of stage 1, two (one for each sign) for each unit tried.
        candidates: the best units among which stage 2 chooses (`N`), at least twice its `k`.
        tries: queries for each `k`.
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

    def active_set(self, task: Task, rows: Int[Tensor, "A"]) -> QueriedSmallestSet:
        return QueriedSmallestSet(task, rows, self.feedback)

    def search(self, active: ActiveSet) -> None:
        # Never over the budget, so there is nothing to be cut.
        assert isinstance(active, SmallestSet)
        self.shrink(active)

    def shrink(self, active: SmallestSet) -> None:
        units = drawn_units(active, -(-self.probes // 2))
        signs = torch.zeros(units.shape, device=units.device)
        alone = torch.full_like(signs, -torch.inf)
        for query in itertools.count():
            tried_units = (units >= 0).sum(1)
            size = self._size(query, tried_units, tried_units.minimum(active.units))
            units, signs, alone, size = active.dismiss(
                active.found | (size < 1), units, signs, alone, size
            )
            # One after the other, up and down; then combinations, each in its better direction.
            probing = (size == 1)[:, None]
            chosen = self._drawn(active, alone, units, size)
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
        """How many units of each utterance move in this query: 1, then up to `most`, 0 at the end.

        Args:
            query: its number.
            units: that stage 1 tries.
            most: that may move together.
        """
        sizes = [1, 2]
        while sizes[-1] < int(most.max()):
            sizes.append(max(sizes[-1] + 1, int(sizes[-1] * self.growth)))
        ladder = torch.tensor(sizes, device=units.device)
        after = query - 2 * units
        place = 1 + after.div(self.tries, rounding_mode="floor").clamp(0)
        last = len(sizes) - 1
        # The whole budget is tried last, wherever the ladder has its steps.
        smaller = ladder[(place - 1).clamp(max=last)]
        combined = torch.where(smaller < most, ladder[place.clamp(max=last)].minimum(most), 0)
        return torch.where(after < 0, 1, combined)

    def _drawn(
        self,
        active: SmallestSet,
        alone: Float[Tensor, "A P"],
        units: Int[Tensor, "A P"],
        size: Int[Tensor, "A"],
    ) -> Bool[Tensor, "A P"]:
        """`size` of the best units of those that are past stage 1, better ones more often."""
        drawn = torch.zeros_like(units, dtype=torch.bool)
        for row in (size > 1).nonzero()[:, 0].tolist():
            n = min(max(self.candidates, 2 * int(size[row])), int((units[row] >= 0).sum()))
            rank = torch.arange(1, n + 1)
            leaders = alone[row].argsort(descending=True, stable=True)[:n]
            chosen = torch.multinomial(
                (2 * n - 2 * rank + 1) / n**2,
                int(size[row]),
                generator=active.noise.generators[row],
            )
            drawn[row, leaders[chosen.to(leaders.device)]] = True
        return drawn


def drawn_units(active: ActiveSet, most: int) -> Int[Tensor, "A P"]:
    """Up to `most` units of each utterance that may change, at random; -1 where there are fewer."""
    most = min(most, int(active.choosable.sum(1).max()))
    units = torch.full((len(active), most), -1)
    for row, rng in enumerate(active.noise.generators):
        open_ = active.choosable[row].nonzero()[:, 0].cpu()
        chosen = open_[torch.randperm(len(open_), generator=rng)[:most]]
        units[row, : len(chosen)] = chosen
    return units.to(active.x.device)


def corners(
    active: ActiveSet,
    units: Int[Tensor, "A P"],
    signs: Float[Tensor, "A P"],
    chosen: Bool[Tensor, "A P"],
) -> Float[Tensor, "A T D"]:
    """The chosen units, each wholly at the bound of its sign."""
    width = active.choosable.shape[1]
    # One place more than there are units takes what is not chosen.
    place = torch.where(chosen & (units >= 0), units, width)
    moved = signs.new_zeros(len(units), width + 1).scatter_(1, place, signs)[:, :width]
    positive = active.budget.expand(moved > 0, active.lengths, active.x.shape)
    negative = active.budget.expand(moved < 0, active.lengths, active.x.shape)
    delta = torch.where(positive, active.upper, torch.where(negative, active.lower, 0.0))
    return delta * active.allowed
