"""VFGA: folded Gaussian steps of the most promising elements, the best of a few draws."""

from __future__ import annotations

import dataclasses

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from sigma_ser.core.registry import register

from .base import check_positive
from .losses import margin
from .minimum_norm import MinimumNormAttack, SmallestSet


@register("attack", "vfga")
@dataclasses.dataclass(frozen=True, kw_only=True, repr=False)
class VFGA(MinimumNormAttack):
    """Voting folded Gaussian attack (Hajri, Cesaire, Schott, Lamprier & Gallinari 2022).

    Each step takes the units of largest gain that have not moved yet, draws folded Gaussian steps
    of them in the gradient's direction, and applies the draw that the victim likes best (the
    vote). It ends when the utterance is fooled. Differs from the paper: the deviation of the
    Gaussian is `spread` times the room up to the bound, instead of one estimated for each pixel,
    and the number of units grows by a share instead of by one, since features have more elements
    than an image of digits.

    Args:
        steps: rounds.
        samples: draws of each round, a forward pass each.
        spread: deviation of the Gaussian before it is folded and clipped, in units of epsilon.
        growth: units added in a round, as a share of those that have moved; at least one.
    """

    steps: int = 100
    samples: int = 5
    spread: float = 2.0
    growth: float = 0.1

    def __post_init__(self) -> None:
        super().__post_init__()
        check_positive(self, "steps", "samples", "spread", "growth")

    def shrink(self, active: SmallestSet) -> None:
        delta = active.zeros()
        moved = torch.zeros_like(active.allowed)
        for step in range(self.steps):
            gradient, delta, moved = active.gradient(delta if step else None, margin, delta, moved)
            taken = active.budget.touched(moved, active.lengths)
            count = (self.growth * taken).long().clamp(min=1).minimum(active.units - taken)
            gradient, delta, moved, count = active.dismiss(
                active.found | (count < 1), gradient, delta, moved, count
            )
            chosen = active.pick(active.gain(gradient), count, active.allowed & ~moved)
            delta = self._voted(active, delta, gradient, chosen)
            moved = moved | chosen
        active.observe(delta)

    def _voted(
        self,
        active: SmallestSet,
        delta: Float[Tensor, "A T D"],
        gradient: Float[Tensor, "A T D"],
        chosen: Bool[Tensor, "A T D"],
    ) -> Float[Tensor, "A T D"]:
        """The best of some draws; no draw counts as a result before it is chosen."""
        corner = active.extreme(gradient, chosen)
        best, leading = delta, torch.full_like(active.best_margin, -torch.inf)
        for _ in range(self.samples):
            length = (self.spread * active.noise.normal(active.x)).abs().clamp(max=1.0)
            tried = delta + length * corner
            reached = margin(active.logits(tried), active.labels, active.target)
            better = reached > leading
            best = torch.where(better[:, None, None], tried, best)
            leading = torch.where(better, reached, leading)
        return best
