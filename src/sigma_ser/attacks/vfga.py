"""VFGA: folded Gaussian steps on the elements of largest gain, best of several samples."""

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

    Each step selects the unchanged units of largest gain, samples folded Gaussian steps for them
    in the direction of the gradient, and applies the sample with the largest margin (the vote).
    The search ends at the first success. This differs from the paper: the standard deviation is
    `spread` times the distance to the bound instead of an estimate per pixel, and the number of
    units grows by a fraction instead of by one, because features have more elements than the
    images of the paper.

    Args:
        steps: number of rounds, at least 1.
        samples: samples per round, at least 1; each takes one forward pass.
        spread: standard deviation before folding and clipping, in units of epsilon, above 0.
        growth: units added per round as a fraction of the changed units, above 0; at least one
            unit is added.
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
            count = (self.growth * taken.float()).long().clamp(min=1)
            count = count.minimum(active.units - taken)
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
        """The sample with the largest margin; the samples themselves are not candidates."""
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
