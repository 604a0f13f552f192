"""Sparse-PGD: joint optimisation of magnitudes and of a continuous mask."""

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
    """Sparse-PGD (Zhong, Huang & Liu 2024, section 4, algorithm 1), implemented from the paper.

    `delta = p * topk(sigmoid(m))`. `p` takes sign steps in the Linf ball; `m` takes steps along
    its normalised gradient, and is sampled again if its top `k` has not changed for `patience`
    steps.

    Args:
        steps: number of gradient steps, at least 1.
        projected: use the sparse gradient `g * topk(...)` for `p` instead of the dense
            `g * sigmoid(m)` (section 4.2).
        magnitude_step: step of `p` as a fraction of epsilon, above 0 (paper: alpha = 0.25).
        mask_step: step of `m` as a fraction of the square root of the number of elements, above 0
            (paper: beta = 0.25).
        patience: steps without a change of the support before `m` is sampled again, at least 1.
        loss: maximised loss, see `losses`.
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
        root = active.allowed.sum((1, 2), dtype=m.dtype).sqrt()
        idle = torch.zeros_like(active.lengths)
        for _ in range(self.steps):
            gradient, p, m, support, root, idle = active.gradient(
                torch.where(support, p, 0.0), loss, p, m, support, root, idle
            )
            gate = torch.sigmoid(m)
            gradient_m = gradient * p * gate * (1 - gate)
            gradient_p = torch.where(support, gradient, 0.0) if self.projected else gradient * gate
            p = active.clip(p + self.magnitude_step * active.bound * torch.sign(gradient_p))
            m = m + self.mask_step * root[:, None, None] * l2_normalised(gradient_m)
            before, support = support, active.support(torch.sigmoid(m))
            idle = torch.where((support == before).flatten(1).all(1), idle + 1, 0)
            m, support, idle = self._resample(active, m, support, idle)
        active.observe(torch.where(support, p, 0.0))

    def _resample(
        self,
        active: ActiveSet,
        m: Float[Tensor, "A T D"],
        support: Bool[Tensor, "A T D"],
        idle: Int[Tensor, "A"],
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Sample new mask logits for utterances with an unchanged support for `patience` steps."""
        rows = (idle >= self.patience).nonzero()[:, 0]
        if len(rows):
            m[rows] = active.noise.select(rows.tolist()).normal(m[rows])
            support = active.support(torch.sigmoid(m))
            idle[rows] = 0
        return m, support, idle
