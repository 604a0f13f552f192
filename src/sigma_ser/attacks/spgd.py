"""Sparse-PGD: joint optimisation of magnitudes and of a continuous mask."""

from __future__ import annotations

import dataclasses

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from sigma_ser.core.registry import register
from sigma_ser.core.seeds import UtteranceNoise

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

    Where whole frames, channels or segments may change, a unit is ranked by the sum over the masks
    of its elements. With `structured` it has one mask logit. Version 3 of the paper (arXiv
    2405.05075) has a structured form, too; its code is not published, and this form is ours.

    Args:
        steps: number of gradient steps, at least 1.
        projected: use the sparse gradient `g * topk(...)` for `p` instead of the dense
            `g * sigmoid(m)` (section 4.2).
        magnitude_step: step of `p` as a fraction of epsilon, above 0 (paper: alpha = 0.25).
        mask_step: step of `m` as a fraction of the square root of the number of elements, above 0
            (paper: beta = 0.25).
        patience: steps without a change of the support before `m` is sampled again, at least 1.
        loss: maximised loss, see `losses`.
        structured: give each frame, channel or segment one mask logit; without effect where single
            elements may change.
    """

    steps: int = 100
    projected: bool = False
    magnitude_step: float = 0.25
    mask_step: float = 0.25
    patience: int = 3
    loss: LossName = "cross-entropy"
    structured: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        check_positive(self, "steps", "magnitude_step", "mask_step", "patience")

    def search(self, active: ActiveSet) -> None:
        loss = LOSSES[self.loss]
        p = active.clip(active.noise.uniform(active.x) * active.bound)
        m = self._noise(active, active.x, active.noise)
        support = self._support(active, m)
        root = active.allowed.sum((1, 2), dtype=m.dtype).sqrt()
        idle = torch.zeros_like(active.lengths)
        for _ in range(self.steps):
            gradient, p, m, support, root, idle = active.gradient(
                torch.where(support, p, 0.0), loss, p, m, support, root, idle
            )
            gate = torch.sigmoid(m)
            gradient_m = self._over_units(active, gradient * p * gate * (1 - gate))
            gradient_p = torch.where(support, gradient, 0.0) if self.projected else gradient * gate
            p = active.clip(p + self.magnitude_step * active.bound * torch.sign(gradient_p))
            m = m + self.mask_step * root[:, None, None] * l2_normalised(gradient_m)
            before, support = support, self._support(active, m)
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
            fresh = self._noise(active, m[rows], active.noise.select(rows.tolist()), rows)
            m[rows] = fresh
            support = self._support(active, m)
            idle[rows] = 0
        return m, support, idle

    def _noise(
        self,
        active: ActiveSet,
        like: Float[Tensor, "R T D"],
        noise: UtteranceNoise,
        rows: Int[Tensor, "R"] | None = None,
    ) -> Float[Tensor, "R T D"]:
        """Standard normal mask logits; the same one for all elements of a unit."""
        drawn = noise.normal(like)
        if not self._shares_logits(active):
            return drawn
        # The sum of n standard normal values divided by the root of n is standard normal.
        total, size = (
            self._over_units(active, values, rows) for values in (drawn, torch.ones_like(drawn))
        )
        return total / size.clamp(min=1).sqrt()

    def _support(self, active: ActiveSet, m: Float[Tensor, "A T D"]) -> Bool[Tensor, "A T D"]:
        """The units with the largest mask."""
        gate = torch.sigmoid(m)
        if self._shares_logits(active):
            # Units are ranked by sums, and the last segment may be longer than the others.
            gate = gate / self._over_units(active, torch.ones_like(m)).clamp(min=1)
        return active.support(gate)

    def _over_units(
        self,
        active: ActiveSet,
        values: Float[Tensor, "R T D"],
        rows: Int[Tensor, "R"] | None = None,
    ) -> Float[Tensor, "R T D"]:
        """Sums over units, at each of their elements; the values where logits are not shared."""
        if not self._shares_logits(active):
            return values
        lengths = active.lengths if rows is None else active.lengths[rows]
        sums = active.budget.unit_scores(values, lengths)
        return active.budget.expand(sums, lengths, values.shape)

    def _shares_logits(self, active: ActiveSet) -> bool:
        return self.structured and active.budget.granularity != "element"
