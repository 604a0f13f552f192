"""Sparse-PGD: magnitudes and a mask of logits, climbed together."""

from __future__ import annotations

import dataclasses

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from sigma_ser.core.registry import register

from .active_set import ActiveSet
from .base import SparseAttack, check_positive
from .losses import LOSSES, LossName
from .projections import l2_normalised


@register("attack", "spgd")
@dataclasses.dataclass(frozen=True, kw_only=True, repr=False)
class SparsePGD(SparseAttack):
    """Sparse-PGD (Zhong, Huang & Liu 2024, section 4, algorithm 1), from the paper's text.

    `delta = p * topk(sigmoid(m))`. `p` takes sign steps in the ball; `m` takes steps along its
    normalised gradient, and is drawn again where its top `k` has stood still.

    Args:
        steps: gradients.
        projected: the sparse gradient `g * topk(...)` for `p` instead of the smoother
            `g * sigmoid(m)` (section 4.2).
        magnitude_step: step of `p`, as a share of epsilon (paper: alpha = 0.25).
        mask_step: step of `m`, as a share of the root of the number of elements (beta = 0.25).
        patience: steps without a change of the support before `m` is drawn again.
        loss: what is climbed.
    """

    steps: int = 100
    projected: bool = False
    magnitude_step: float = 0.25
    mask_step: float = 0.25
    patience: int = 3
    loss: LossName = "cross-entropy"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_positive(self, "steps", "magnitude_step", "mask_step", "patience")

    def search(self, active: ActiveSet) -> None:
        loss = LOSSES[self.loss]
        p = active.clip(active.noise.uniform(active.x) * active.bound)
        m = active.noise.normal(active.x)
        support = active.support(torch.sigmoid(m))
        root = active.allowed.sum((1, 2)).sqrt()
        idle = torch.zeros_like(active.lengths)
        for _ in range(self.steps):
            gradient, p, m, support, root, idle = active.gradient(
                torch.where(support, p, 0.0), loss, p, m, support, root, idle
            )
            open_ = torch.sigmoid(m)
            gradient_m = gradient * p * open_ * (1 - open_)
            gradient_p = torch.where(support, gradient, 0.0) if self.projected else gradient * open_
            p = active.clip(p + self.magnitude_step * active.bound * torch.sign(gradient_p))
            m = m + self.mask_step * root[:, None, None] * l2_normalised(gradient_m)
            before, support = support, active.support(torch.sigmoid(m))
            idle = torch.where((support == before).flatten(1).all(1), idle + 1, 0)
            m, support, idle = self._drawn_again(active, m, support, idle)
        active.observe(torch.where(support, p, 0.0))

    def _drawn_again(
        self,
        active: ActiveSet,
        m: Float[Tensor, "A T D"],
        support: Bool[Tensor, "A T D"],
        idle: Int[Tensor, "A"],
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Mask logits drawn anew for the utterances whose support has stood still."""
        rows = (idle >= self.patience).nonzero()[:, 0]
        if len(rows):
            m[rows] = active.noise.select(rows.tolist()).normal(m[rows])
            support = active.support(torch.sigmoid(m))
            idle[rows] = 0
        return m, support, idle
