"""SAIF: Frank-Wolfe steps on the magnitudes and on the support."""

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

    `delta = p * s` with `p` in the Linf ball and `s` in the polytope `0 <= s <= 1,
    sum(s) <= k`. Both take Frank-Wolfe steps `p <- p + mu (v - p)`, where `v` is the vertex that
    maximises the inner product with the gradient and `mu = 1 / (2^r sqrt(t + 1))`; `r` is
    increased when the loss decreases. The start is the vertex for the clean gradient. An iterate
    can have more than `k` non-zero elements, so the result is its projection to the `k` largest
    `s`.

    Args:
        steps: number of gradient steps, at least 1.
        cut_every: steps between two evaluations of the projection, at least 1.
        loss: maximised loss, see `losses`.
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
        halvings = torch.zeros_like(active.best_margin)
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
    """`p` restricted to the `k` units of largest `s`."""
    return p * active.support(s)
