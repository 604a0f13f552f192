"""Minimum-norm attacks: they minimise the number of changed units."""

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
from .problem import Problem


class SmallestSet(ActiveSet):
    """An active set in which an utterance stays until its perturbation is small enough.

    A perturbation that exceeds the budget is not a result, but the smallest one is stored and can
    be projected to the budget.

    Attributes:
        enough: `(A,)` number of units at which an utterance is finished.
        smallest: `(A, T, D)` the successful perturbation with the fewest units, within the budget
            or not; without a success, the perturbation with the largest margin.
        size: `(A,)` number of units of `smallest`.
        found: `(A,)` whether `smallest` succeeds.
    """

    def __init__(self, problem: Problem, rows: Int[Tensor, "A"]) -> None:
        super().__init__(problem, rows)
        if not len(rows):
            return
        self.enough = torch.ones_like(self.units) if problem.minimise else self.units
        self.smallest = torch.zeros_like(self.x)
        self.size = torch.zeros_like(self.units)
        self.found = torch.zeros_like(self.units, dtype=torch.bool)
        self._widest_margin = torch.full_like(self.best_margin, -torch.inf)

    def _assess(
        self,
        delta: Float[Tensor, "A T D"],
        fooled: Bool[Tensor, "A"],
        margins: Float[Tensor, "A"],
        merit: Float[Tensor, "A"] | None,  # the size replaces the merit
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
        better, _ = super()._assess(delta, fooled & fits, margins, -size.float())
        return better, fooled & (size <= self.enough)

    def _drop(self, stay: Int[Tensor, "S"], *state: Tensor) -> tuple[Tensor, ...]:
        own_state = (self.enough, self.smallest, self.size, self.found, self._widest_margin)
        kept = super()._drop(stay, *own_state, *state)
        self.enough, self.smallest, self.size, self.found, self._widest_margin = kept[:5]
        return kept[5:]


@dataclasses.dataclass(frozen=True, kw_only=True, repr=False)
class MinimumNormAttack(SparseAttack):
    """An attack that minimises the number of changed units.

    With a budget, the search of an utterance ends once `k` units suffice; a larger perturbation
    is projected to its `k` units of largest `|delta| / epsilon` and evaluated again.
    `minimum` searches for the smallest number.
    """

    def active_set(self, problem: Problem, rows: Int[Tensor, "A"]) -> SmallestSet:
        return SmallestSet(problem, rows)

    def search(self, active: ActiveSet) -> None:
        assert isinstance(active, SmallestSet)
        self.shrink(active)
        if not active.problem.minimise:
            active.observe(cut_to_largest(active, active.smallest))

    @abstractmethod
    def shrink(self, active: SmallestSet) -> None:
        """Search for small successful perturbations; each one passed to `active` is a candidate."""

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
        """The successful perturbation with the fewest units.

        The result covers every `k`: where `result.success`,
        `budget.touched(result.x_adv != batch.x, batch.lengths)` is the number of units needed.

        Args:
            victim, batch, labels, mask, target, seeds: as for a call of the attack.
            epsilon: bound of each element in units of scale, a number or `(D,)`.
            granularity: the kind of unit that is counted.
        """
        budget = Budget(sparsity=1.0, epsilon=epsilon, granularity=granularity)
        return self.run(
            victim, batch, labels, budget, mask=mask, target=target, seeds=seeds, minimise=True
        )


def cut_to_largest(active: ActiveSet, delta: Float[Tensor, "A T D"]) -> Float[Tensor, "A T D"]:
    """`delta` restricted to its `k` units of largest `|delta| / epsilon`."""
    support = active.support(delta.abs() / active.bound.clamp(min=1e-30))
    return torch.where(support, delta, 0.0)
