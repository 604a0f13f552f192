"""Attacks that move every element of a mask, and so need one that fits the budget."""

from __future__ import annotations

import dataclasses

import torch
from jaxtyping import Float
from torch import Tensor

from sigma_ser.core.errors import BudgetError

from .active_set import ActiveSet
from .base import SparseAttack
from .projections import linf_normalised


@dataclasses.dataclass(frozen=True, kw_only=True, repr=False)
class MaskedAttack(SparseAttack):
    """An attack that does not choose: it moves all that it may.

    Args:
        keep_largest: after each step keep the units that moved most, as many as the budget
            allows; without it a mask that is larger than the budget is refused.
    """

    keep_largest: bool = False

    def check(self, active: ActiveSet) -> None:
        """Refuse a mask with more units than the budget.

        Raises:
            BudgetError: says how to choose.
        """
        super().check(active)
        if self.keep_largest:
            return
        inside = active.budget.unit_allowed(active.allowed, active.lengths, active.x.shape).sum(1)
        over = inside > active.units
        if bool(over.any()):
            first = int(over.nonzero()[0])
            given = "its mask has" if active.task.mask is not None else "without a mask it has"
            raise BudgetError(
                f"{type(self).__name__} moves every element it may, and {given} "
                f"{int(inside[first])} {active.budget.granularity}s where the budget allows "
                f"{int(active.units[first])} (utterance "
                f"{active.task.batch.ids[int(active.owner[first])]!r}); give a mask of scope 1, "
                "a larger budget, or keep_largest=True"
            )

    def within(
        self,
        active: ActiveSet,
        delta: Float[Tensor, "A T D"],
        gradient: Float[Tensor, "A T D"],
    ) -> Float[Tensor, "A T D"]:
        """`delta` clipped to the ball, and to its largest units where that is asked for.

        Sign steps move many elements by the same amount; of these, those with the larger
        gradient stay.
        """
        delta = active.clip(delta)
        if not self.keep_largest:
            return delta
        size = delta.abs() / active.bound.clamp(min=1e-30)
        support = active.support(size + 1e-3 * linf_normalised(active.gain(gradient)))
        return torch.where(support, delta, 0.0)
