"""The k-sparse ball around the active utterances: the feasible set of an attack."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from sigma_ser.core.features import valid_frames
from sigma_ser.core.topk import topk_support

from .limits import feasible, reachable
from .problem import Problem


class SparseBall:
    """Perturbations of at most `k` units with `|delta| <= epsilon * scale`.

    Tensors have one row per active utterance and are cut to the longest of them.

    Attributes:
        x: `(A, T, D)` clean features, zero on padding.
        lengths: `(A,)`.
        bound: `epsilon * scale` per channel, `(D,)`, or `(A, 1, D)` if it differs by utterance.
        lower, upper: bounds of `delta`, shaped as `bound`, or `(A, T, D)` with an observed range.
        low, high: `(A, T, D)` exact bounds of perturbed features, see `limits.reachable`.
        units: `(A,)` number of units that may change.
        choosable: `(A, U)` units that may be selected.
        allowed: `(A, T, D)` elements of these units.
        unrestricted: whether every element is allowed.
    """

    def __init__(self, problem: Problem) -> None:
        self.problem = problem
        self.budget = problem.budget
        self._all_bounds = problem.budget.bound(problem.victim.scale)
        exact = problem.budget.bound(problem.victim.scale.double())
        self._all_low, self._all_high = reachable(problem.batch.x, exact, problem.box)
        self._all_units = problem.budget.units(problem.batch.lengths, problem.batch.x.shape[2])

    def restrict(self, rows: Int[Tensor, "A"]) -> None:
        """Restrict the ball to the utterances `rows` of the problem."""
        problem = self.problem
        self.lengths = problem.batch.lengths[rows]
        frames = int(self.lengths.max())
        valid = valid_frames(self.lengths, frames)[:, :, None]
        # A complete batch without padding is not copied.
        whole = torch.equal(rows, torch.arange(len(problem.batch), device=rows.device))
        if whole and frames == problem.batch.x.shape[1] and bool(valid.all()):
            self.x, self.low, self.high = problem.batch.x, self._all_low, self._all_high
        else:
            self.x = problem.batch.x[rows, :frames].masked_fill(~valid, 0.0)
            self.low, self.high = self._all_low[rows, :frames], self._all_high[rows, :frames]
        self.units = self._all_units[rows]
        self.bound = self._all_bounds if self._all_bounds.ndim == 1 else self._all_bounds[rows]
        self.lower, self.upper = feasible(self.x, self.bound, problem.box)
        mask = None if problem.mask is None else problem.mask[rows, :frames]
        self.choosable = problem.budget.unit_allowed(mask, self.lengths, self.x.shape)
        self.allowed = self._elements(self.choosable)
        # Without a mask or padding, which is common, every step saves one masking operation.
        self.unrestricted = bool(self.allowed.all())

    def support(self, scores: Float[Tensor, "A T D"]) -> Bool[Tensor, "A T D"]:
        """The elements of the `k` allowed units with the largest non-negative scores."""
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
        """The elements of the `count` units with the largest scores that lie wholly in `where`."""
        units = topk_support(
            self.budget.unit_scores(scores, self.lengths),
            count,
            self.budget.unit_allowed(where, self.lengths, self.x.shape),
        )
        return self._elements(units)

    def _elements(self, units: Bool[Tensor, "A U"]) -> Bool[Tensor, "A T D"]:
        """The elements of a selection of allowed units."""
        if self.budget.granularity == "element":
            return units.view(self.x.shape)  # allowed elements are never padding
        return self.budget.expand(units, self.lengths, self.x.shape)

    def gain(self, direction: Float[Tensor, "A T D"]) -> Float[Tensor, "A T D"]:
        """The contribution of each element to `<direction, delta>` at its bound."""
        if self.problem.box is None:
            return direction.abs().mul_(self.upper)
        return torch.where(direction > 0, self.upper, self.lower).mul_(direction)

    def extreme(
        self, direction: Float[Tensor, "A T D"], support: Bool[Tensor, "A T D"]
    ) -> Float[Tensor, "A T D"]:
        """The vertex of the ball with the signs of `direction`, on a support."""
        if self.problem.box is None:
            return torch.where(support, torch.sign(direction).mul_(self.upper), 0.0)
        corner = torch.where(direction > 0, self.upper, self.lower)
        return torch.where(support & (direction != 0), corner, 0.0)

    def corner(self, direction: Float[Tensor, "A T D"]) -> Float[Tensor, "A T D"]:
        """`argmax <direction, delta>` over all perturbations within the budget.

        The linear maximisation oracle over the k-sparse ball: the `k` units of largest gain, each
        at its bound.
        """
        return self.extreme(direction, self.support(self.gain(direction)))

    def clip(self, delta: Float[Tensor, "A T D"]) -> Float[Tensor, "A T D"]:
        """Projection to the ball (and box), in place."""
        return torch.minimum(torch.maximum(delta, self.lower, out=delta), self.upper, out=delta)

    def perturbed(
        self, delta: Float[Tensor, "A T D"] | None, *, candidate: bool = True
    ) -> Float[Tensor, "A T D"]:
        """The features `x + delta`; those of a candidate are rounded into the budget."""
        if delta is None:
            return self.x
        x = self.x + delta.detach()
        return torch.clamp(x, self.low, self.high, out=x) if candidate else x

    def zeros(self) -> Float[Tensor, "A T D"]:
        """Zeros `(A, T, D)`."""
        return torch.zeros_like(self.x)
