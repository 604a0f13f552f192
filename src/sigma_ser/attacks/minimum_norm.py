"""Minimum-norm attacks: as few changed units as possible, instead of a given number."""

from __future__ import annotations

import dataclasses
from abc import abstractmethod

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from sigma_ser.core.budget import Budget, Granularity
from sigma_ser.core.contracts import AttackResult, Victim
from sigma_ser.core.features import FeatureBatch

from .active_set import ActiveSet
from .base import SparseAttack
from .task import Task


class SmallestSet(ActiveSet):
    """An active set in which an utterance stays until its perturbation is small enough.

    What is over the budget is no result, but the smallest of it is kept to be cut.

    Attributes:
        enough: `(A,)` units with which an utterance is done.
        smallest: `(A, T, D)` the fooling perturbation with the fewest units, whether within the
            budget or not; where there is none, the one with the largest margin.
        size: `(A,)` its units.
        found: `(A,)` whether it fools.
    """

    def __init__(self, task: Task, rows: Int[Tensor, "A"]) -> None:
        super().__init__(task, rows)
        if not len(rows):
            return
        self.enough = torch.ones_like(self.units) if task.minimise else self.units
        self.smallest = torch.zeros_like(self.x)
        self.size = torch.zeros_like(self.units)
        self.found = torch.zeros_like(self.units, dtype=torch.bool)
        self._widest_margin = torch.full_like(self.best_margin, -torch.inf)

    def _judge(
        self,
        delta: Float[Tensor, "A T D"],
        fooled: Bool[Tensor, "A"],
        margins: Float[Tensor, "A"],
        merit: Float[Tensor, "A"] | None,  # the size is the merit here
    ) -> tuple[Bool[Tensor, "A"], Bool[Tensor, "A"]]:
        size = self.budget.touched(delta != 0, self.lengths)
        smaller = torch.where(
            fooled,
            ~self.found | (size < self.size),
            ~self.found & (margins > self._widest_margin),
        )
        torch.where(smaller[:, None, None], delta, self.smallest, out=self.smallest)
        self.size = torch.where(smaller, size, self.size)
        self._widest_margin = torch.where(smaller, margins, self._widest_margin)
        self.found = self.found | fooled
        fits = size <= self.units
        margins = margins.masked_fill(~fits, -torch.inf)
        better, _ = super()._judge(delta, fooled & fits, margins, -size.float())
        return better, fooled & (size <= self.enough)

    def _drop(self, stay: Int[Tensor, "S"], *state: Tensor) -> tuple[Tensor, ...]:
        mine = (self.enough, self.smallest, self.size, self.found, self._widest_margin)
        kept = super()._drop(stay, *mine, *state)
        self.enough, self.smallest, self.size, self.found, self._widest_margin = kept[:5]
        return kept[5:]


@dataclasses.dataclass(frozen=True, kw_only=True, repr=False)
class MinimumNormAttack(SparseAttack):
    """An attack that looks for the fewest changed units.

    Called with a budget it stops where `k` units are enough; what needs more is cut to the `k`
    units that moved most, and checked again. :meth:`minimum` goes on to the fewest.
    """

    def active_set(self, task: Task, rows: Int[Tensor, "A"]) -> SmallestSet:
        return SmallestSet(task, rows)

    def search(self, active: ActiveSet) -> None:
        assert isinstance(active, SmallestSet)
        self.shrink(active)
        if not active.task.minimise:
            active.observe(cut_to_largest(active, active.smallest))

    @abstractmethod
    def shrink(self, active: SmallestSet) -> None:
        """Look for small fooling perturbations; all that `active` is shown is weighed."""

    def minimum(
        self,
        victim: Victim,
        batch: FeatureBatch,
        labels: Int[Tensor, "B"],
        *,
        epsilon: float | Float[Tensor, "D"],
        granularity: Granularity = "element",
        mask: Bool[Tensor, "B T D"] | None = None,
        target: Int[Tensor, "B"] | None = None,
        seeds: Int[Tensor, "B"] | None = None,
    ) -> AttackResult:
        """The fooling perturbation with the fewest units, by `epsilon` each.

        Read it at every `k`: `budget.touched(result.x_adv != batch.x, batch.lengths)` are the
        units that each utterance needs, where `result.success`.
        """
        budget = Budget(sparsity=1.0, epsilon=epsilon, granularity=granularity)
        return self.run(
            victim, batch, labels, budget, mask=mask, target=target, seeds=seeds, minimise=True
        )


def cut_to_largest(active: ActiveSet, delta: Float[Tensor, "A T D"]) -> Float[Tensor, "A T D"]:
    """The `k` units that moved most, in units of epsilon."""
    support = active.support(delta.abs() / active.bound.clamp(min=1e-30))
    return torch.where(support, delta, 0.0)
