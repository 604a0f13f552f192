"""Dense attacks: they change every element of a mask, so the mask must fit the budget."""

from __future__ import annotations

import dataclasses

import torch
from jaxtyping import Float
from torch import Tensor

from sigma_ser.core import registry
from sigma_ser.core.errors import BudgetError

from .active_set import ActiveSet
from .base import SparseAttack
from .projections import linf_normalised


@dataclasses.dataclass(frozen=True, kw_only=True, repr=False)
class MaskedAttack(SparseAttack):
    """A dense attack: it selects no support and changes every element of the mask.

    Args:
        keep_largest: project to the `k` units with the largest `|delta| / epsilon` after each
            step. If false, a mask with more than `k` units is rejected.
    """

    keep_largest: bool = False

    def check(self, active: ActiveSet) -> None:
        """Reject a mask with more units than the budget.

        Raises:
            BudgetError: if the mask is too large and `keep_largest` is false.
        """
        super().check(active)
        if self.keep_largest:
            return
        inside = active.budget.unit_allowed(active.allowed, active.lengths, active.x.shape).sum(1)
        over = inside > active.units
        if bool(over.any()):
            first = int(over.nonzero()[0])
            place = "in its mask" if active.problem.mask is not None else "without a mask"
            raise BudgetError(
                f"the attack {registry.name_of('attack', type(self))!r} changes every element that "
                f"it is given: {int(inside[first])} {active.budget.granularity}s {place}, but the "
                f"budget allows {int(active.units[first])} (utterance "
                f"{active.problem.batch.ids[int(active.owner[first])]!r}); give it a mask of "
                "scope 1, or set keep_largest"
            )

    def within(
        self,
        active: ActiveSet,
        delta: Float[Tensor, "A T D"],
        gradient: Float[Tensor, "A T D"],
    ) -> Float[Tensor, "A T D"]:
        """`delta` clipped to the ball and, with `keep_largest`, projected to its `k` largest units.

        Sign steps change many elements by the same amount; ties are broken by the gradient.
        """
        delta = active.clip(delta)
        if not self.keep_largest:
            return delta
        size = delta.abs() / active.bound.clamp(min=1e-30)
        support = active.support(size + 1e-3 * linf_normalised(active.gain(gradient)))
        return torch.where(support, delta, 0.0)
