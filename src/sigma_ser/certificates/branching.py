"""Kinks of a layer with ReLU: chords, and branching on single units where chords are too coarse."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

_TINY = 1e-300
# Branches that are split at the same time.
_TOGETHER = 8
# Share of the computed bounds after which it is decided whether the others are worth it.
_TRIAL = 0.25


@dataclass(frozen=True, eq=False)
class Kinks:
    """What the units of a layer add to the tangent of a margin: `c (e - distance)_+` for each unit.

    `e` is the change of a pre-activation in the direction of its kink.

    Args:
        coefficient: `c`, the decrease of the margin by each unit, `(N, G)`; negative ones count
            as 0, since a unit then adds nothing.
        distance: of each clean pre-activation from its kink.
        to_kink: the largest `e`.
        away: the largest `-e`.
    """

    coefficient: Float[Tensor, "N G"]
    distance: Float[Tensor, "G"]
    to_kink: Float[Tensor, "G"]
    away: Float[Tensor, "G"]

    @property
    def chords(self) -> Float[Tensor, "N G"]:
        """The slope of the chord of each unit over `[-away, to_kink]`."""
        beyond = (self.to_kink - self.distance).clamp(min=0.0)
        width = (self.to_kink + self.away).clamp(min=_TINY)
        return self.coefficient.clamp(min=0.0) * beyond / width

    @property
    def gaps(self) -> Float[Tensor, "N G"]:
        """How much the chord of each unit exceeds it at most, at the kink."""
        return self.chords * (self.distance + self.away)

    def lines(self, sides: Int[Tensor, "N G"]) -> tuple[Float[Tensor, "N G"], Float[Tensor, "N"]]:
        """Slopes and constants of bounds that are linear in all `e`.

        Args:
            sides: of each kink: 1 where only changes beyond it count, -1 where only those before
                it count, 0 where all count.

        Returns:
            One bound for each row of `sides`; it holds for the changes that count.
        """
        full, chords = self.coefficient.clamp(min=0.0), self.chords
        slopes = torch.where(sides > 0, full, torch.where(sides < 0, 0.0, chords))
        constants = torch.where(sides > 0, -full * self.distance, 0.0)
        constants = torch.where(sides == 0, chords * self.away, constants)
        return slopes, constants.sum(1)


def damage_by_branches(
    kinks: Kinks,
    damage: Callable[[Float[Tensor, "N G"]], Float[Tensor, "N"]],
    enough: float,
    most: int,
) -> float:
    """Bound one margin's damage, with the changes divided by the sides of single kinks.

    The branch of the largest bound is split at the unit whose chord is coarsest (branch and bound,
    as by Bunel et al. 2018 for verification). Within a branch the unit is linear and exact.

    Args:
        kinks: of one margin, `(1, G)`.
        damage: the largest damage of the tangent plus linear functions of all `e`, given their
            slopes.
        enough: the bound below which there is no need to continue. What exceeds it must be halved
            by the first quarter of `most`, or the rest is not computed.
        most: number of bounds that are computed.

    Returns:
        An upper bound, at most the one by chords alone.
    """
    gaps = kinks.gaps
    sides = torch.zeros(gaps.shape, dtype=torch.long)
    slopes, constants = kinks.lines(sides)
    bounds = damage(slopes) + constants
    computed, excess = 1, bounds.max() - enough
    while bool(bounds.max() >= enough) and computed < most:
        if computed > most * _TRIAL and bool(bounds.max() - enough > excess / 2):
            break
        worst = bounds.topk(min(_TOGETHER, len(bounds))).indices
        worst = worst[bounds[worst] >= enough]
        largest, unit = (gaps * (sides[worst] == 0)).max(1)
        if bool((largest == 0).any()):
            break  # a branch without kinks does not become smaller
        halves = sides[worst].repeat(2, 1)
        beyond = torch.tensor([1, -1]).repeat_interleave(len(worst))
        halves[torch.arange(len(halves)), unit.repeat(2)] = beyond
        slopes, constants = kinks.lines(halves)
        # The changes of a half are some of those of the whole.
        found = torch.minimum(damage(slopes) + constants, bounds[worst].repeat(2))
        others = torch.ones(len(bounds), dtype=torch.bool).index_fill(0, worst, False)
        sides, bounds = torch.cat([sides[others], halves]), torch.cat([bounds[others], found])
        computed += len(halves)
    return float(bounds.max())
