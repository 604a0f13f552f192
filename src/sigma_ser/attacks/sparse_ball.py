"""The k-sparse ball around the utterances that are left: what may change, and how far."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from sigma_ser.core.features import valid_frames
from sigma_ser.core.topk import topk_support

from .limits import feasible
from .task import Task


class SparseBall:
    """Perturbations of at most `k` units within `epsilon`, of some rows of a task.

    Tensors have one row for each utterance, cut to the longest of them.

    Attributes:
        x: `(A, T, D)` clean features, zero on padding.
        lengths: `(A,)`.
        bound: the largest change of each channel, `(D,)`, or `(A, 1, D)` where each utterance has
            its own.
        lower, upper: the smallest and largest change of each element, shaped as `bound`, or
            `(A, T, D)` inside an observed range.
        units: `(A,)` how many units may change.
        allowed: `(A, T, D)` elements of the units that may be chosen.
    """

    def __init__(self, task: Task) -> None:
        self.task = task
        self.budget = task.budget
        self._all_bounds = task.budget.bound(task.victim.scale)
        self._all_units = task.budget.units(task.batch.lengths, task.batch.x.shape[2])

    def restrict(self, rows: Int[Tensor, "A"]) -> None:
        """Go over to the utterances `rows` of the task."""
        task = self.task
        self.lengths = task.batch.lengths[rows]
        frames = int(self.lengths.max())
        valid = valid_frames(self.lengths, frames)[:, :, None]
        # A whole batch without padding need not be there twice.
        whole = torch.equal(rows, torch.arange(len(task.batch), device=rows.device))
        if whole and frames == task.batch.x.shape[1] and bool(valid.all()):
            self.x = task.batch.x
        else:
            self.x = task.batch.x[rows, :frames].masked_fill(~valid, 0.0)
        self.units = self._all_units[rows]
        self.bound = self._all_bounds if self._all_bounds.ndim == 1 else self._all_bounds[rows]
        self.lower, self.upper = feasible(self.x, self.bound, task.box)
        mask = None if task.mask is None else task.mask[rows, :frames]
        self.choosable = task.budget.unit_allowed(mask, self.lengths, self.x.shape)
        self.allowed = self._elements(self.choosable)
        # Most batches have nothing to rule out, and a pass over them is saved at every step.
        self.unrestricted = bool(self.allowed.all())

    def support(self, scores: Float[Tensor, "A T D"]) -> Bool[Tensor, "A T D"]:
        """The elements of the units with the largest scores (at least 0): `k` inside the mask."""
        units = topk_support(
            self.budget.unit_scores(scores, self.lengths),
            self.units,
            None if self.unrestricted else self.choosable,
        )
        return self._elements(units)

    def pick(
        self,
        scores: Float[Tensor, "A T D"],
        count: Int[Tensor, "A"],
        where: Bool[Tensor, "A T D"],
    ) -> Bool[Tensor, "A T D"]:
        """The elements of the `count` units of largest score among those wholly in `where`."""
        units = topk_support(
            self.budget.unit_scores(scores, self.lengths),
            count,
            self.budget.unit_allowed(where, self.lengths, self.x.shape),
        )
        return self._elements(units)

    def _elements(self, units: Bool[Tensor, "A U"]) -> Bool[Tensor, "A T D"]:
        """The elements of units that were chosen among the allowed ones."""
        if self.budget.granularity == "element":
            return units.view(self.x.shape)  # none of them lies on padding
        return self.budget.expand(units, self.lengths, self.x.shape)

    def gain(self, direction: Float[Tensor, "A T D"]) -> Float[Tensor, "A T D"]:
        """What each element adds to `<direction, delta>` when it goes to its bound."""
        if self.task.box is None:
            return direction.abs().mul_(self.upper)
        return torch.where(direction > 0, self.upper, self.lower).mul_(direction)

    def extreme(
        self, direction: Float[Tensor, "A T D"], support: Bool[Tensor, "A T D"]
    ) -> Float[Tensor, "A T D"]:
        """The corner of the ball in the direction's signs, on a support."""
        if self.task.box is None:
            return torch.where(support, torch.sign(direction).mul_(self.upper), 0.0)
        corner = torch.where(direction > 0, self.upper, self.lower)
        return torch.where(support & (direction != 0), corner, 0.0)

    def corner(self, direction: Float[Tensor, "A T D"]) -> Float[Tensor, "A T D"]:
        """`argmax <direction, delta>` over all perturbations within the budget.

        The linear maximisation oracle of Frank-Wolfe methods over the k-sparse ball: the `k`
        elements of largest gain, each at its bound.
        """
        return self.extreme(direction, self.support(self.gain(direction)))

    def clip(self, delta: Float[Tensor, "A T D"]) -> Float[Tensor, "A T D"]:
        """The nearest point of the ball (and box), in place."""
        return torch.minimum(torch.maximum(delta, self.lower, out=delta), self.upper, out=delta)

    def zeros(self) -> Float[Tensor, "A T D"]:
        """A perturbation, or a sum of gradients, to start from."""
        return torch.zeros_like(self.x)
