"""SAIF: Frank-Wolfe on the magnitudes and on the support."""

from __future__ import annotations

import dataclasses

import torch
from jaxtyping import Float
from torch import Tensor

from sigma_ser.core.registry import register

from .active_set import ActiveSet
from .base import SparseAttack, check_positive
from .losses import LOSSES, LossName


@register("attack", "saif")
@dataclasses.dataclass(frozen=True, kw_only=True, repr=False)
class SAIF(SparseAttack):
    """SAIF (Imtiaz, Kohler, Miller, Wang, Sznaier, Camps & Dy 2022, algorithm 1).

    `delta = p * s` with `p` in the Linf ball and `s` in the k-sparse box `0 <= s <= 1,
    sum(s) <= k`. Both take Frank-Wolfe steps `p <- p + mu (v - p)` towards the corner that their
    gradient points to, `mu = 1 / (2^r sqrt(t + 1))`; `r` grows where the loss gets worse. It
    starts at the corners that the clean gradient points to. The iterate has more than `k`
    elements, so only its cut to the top `k` counts.

    Args:
        steps: gradients.
        cut_every: steps between two tries of the cut.
        loss: what is climbed.
    """

    steps: int = 100
    cut_every: int = 10
    loss: LossName = "cross-entropy"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_positive(self, "steps", "cut_every")

    def search(self, active: ActiveSet) -> None:
        loss = LOSSES[self.loss]
        (gradient,) = active.gradient(None, loss)
        p = active.extreme(gradient, active.allowed)
        s = active.support(active.gain(gradient)).float()
        halvings = torch.zeros(len(active), device=active.x.device)
        before = torch.full_like(halvings, -torch.inf)
        for step in range(self.steps):
            if step % self.cut_every == 0:
                p, s, halvings, before = active.observe(cut(active, p, s), p, s, halvings, before)
            gradient, value = active.slope(p * s, loss)
            halvings = halvings + (value < before)
            before = value
            mu = (0.5**halvings / (step + 1) ** 0.5)[:, None, None]
            gain = (gradient * p).clamp(min=0.0)
            v = active.extreme(gradient * s, active.allowed)
            w = active.support(gain) & (gain > 0)
            p, s = p + mu * (v - p), s + mu * (w.float() - s)
        active.observe(cut(active, p, s))


def cut(
    active: ActiveSet, p: Float[Tensor, "A T D"], s: Float[Tensor, "A T D"]
) -> Float[Tensor, "A T D"]:
    """`p` on the `k` elements of largest `s`."""
    return p * active.support(s)
