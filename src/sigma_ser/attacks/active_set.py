"""The active set of a search: evaluates perturbations and removes misclassified utterances."""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from sigma_ser.core.contracts import AttackResult
from sigma_ser.core.passes import input_gradient
from sigma_ser.core.progress import ignored

from .inputs import versions
from .limits import Meter, SearchEnded, rounded_inside
from .losses import Loss, margin, spread_factor
from .problem import Problem, changed_in_place, not_finite
from .sparse_ball import SparseBall

# Maps perturbed features and their logits to `(value (A,), merit (A,) or None)`.
Objective = Callable[[Tensor, Tensor], tuple[Tensor, Tensor | None]]


class ActiveSet(SparseBall):
    """The utterances of a problem that are still classified correctly, with their best results.

    Tensors have one row per active utterance and are cut to the longest of them. `gradient` and
    `observe` evaluate a perturbation, store it if it has the largest margin so far, remove the
    utterances for which it succeeds, and return the caller's state for the remaining ones. They
    raise `SearchEnded` when no utterance remains or a limit is reached, so the loop of an
    attack needs no test of its own.

    Attributes:
        labels: `(A,)` true classes; target: `(A,)` target classes or `None`.
        rivals: `(A, C - 1)` the other classes in descending order of the clean logits.
        noise: random generators, one per active utterance.
        spread_factor: `(A,)` factors of the logits in losses, see `losses.spread_factor`.
        fooling, margins: `(A,)` whether the last candidate succeeds, and its margin.
        best: `(A, T, D)` the best perturbation so far; best_margin, best_merit: `(A,)` its values.
    """

    def __init__(self, problem: Problem, rows: Int[Tensor, "A"]) -> None:
        super().__init__(problem)
        self.victim = problem.victim
        self.meter = Meter(problem.limits)
        self.steps = 0
        self.advance: Callable[[int], None] = ignored  # called with numbers of finished utterances
        batch = problem.batch
        order = problem.clean_logits.argsort(dim=1, descending=True, stable=True)
        others = order != problem.labels[:, None]
        self._all_rivals = order[others].view(len(order), -1)
        self._all_factors = spread_factor(problem.clean_logits)
        # The features of the result are built at the end, because the search needs the memory.
        self._results: list[tuple[Tensor, Tensor]] = []
        self.prediction = problem.clean_logits.argmax(1)
        self.steps_taken = torch.zeros_like(batch.lengths)
        self.rows = rows
        if len(rows):
            self._enter(rows)
            self.best = torch.zeros_like(self.x)
            self.best_margin = self.x.new_full(rows.shape, -torch.inf)
            self.best_merit = self.best_margin.clone()
            self.margins = self.best_margin.clone()
            self.fooling = torch.zeros_like(rows, dtype=torch.bool)
            self.best_prediction = self.prediction[rows]

    def _enter(self, rows: Int[Tensor, "A"]) -> None:
        """Make the utterances `rows` of the problem the active ones."""
        self.restrict(rows)
        problem = self.problem
        self.rows = rows
        self.owner = rows.cpu()  # on the CPU, where passes are counted
        self.labels = problem.labels[rows]
        self.target = None if problem.target is None else problem.target[rows]
        self.rivals = self._all_rivals[rows]
        self.spread_factor = self._all_factors[rows]
        self.noise = problem.noise.select(self.owner.tolist())
        self._versions = versions([self.x, self.lengths, self.labels])

    def __len__(self) -> int:
        return len(self.rows)

    def normalised(self, logits: Float[Tensor, "A C"]) -> Float[Tensor, "A C"]:
        """Logits in units of the spread of the clean ones, in which losses are evaluated."""
        return logits * self.spread_factor[:, None].to(logits.dtype)

    def gradient(
        self,
        delta: Float[Tensor, "A T D"] | None,
        loss: Loss,
        *state: Tensor,
        rival: int | None = None,
        counts: bool = True,
    ) -> tuple[Tensor, ...]:
        """Gradient of `loss` at a perturbation, zero outside the mask: one forward, one backward.

        Args:
            delta: the point of evaluation; `None` is the clean input, which is never a result.
            loss: see `losses`.
            state: tensors of the caller with one row per active utterance.
            rival: index into `rivals` of the class that the loss targets; `None`: the problem's.
            counts: whether the perturbation is a candidate for the result; if not, no utterance
                is removed.

        Returns:
            The gradient `(A', T', D)`, then the state, for the remaining utterances.

        Raises:
            SearchEnded: if no utterance remains or a limit is reached.
        """
        target = self.target if rival is None else self.rivals[:, rival]
        return self.ascent(
            delta,
            lambda _, logits: (loss(self.normalised(logits), self.labels, target), None),
            *state,
            counts=counts,
        )  # fmt: skip

    def ascent(
        self,
        delta: Float[Tensor, "A T D"] | None,
        objective: Objective,
        *state: Tensor,
        counts: bool = True,
    ) -> tuple[Tensor, ...]:
        """As `gradient`, for an objective of features and logits.

        With a merit, successful utterances remain in the set, and the successful perturbation
        with the largest merit is the best one.
        """
        self.meter.spend(2)
        with torch.enable_grad():
            # A new leaf, so that the victim's parameters receive no gradient.
            x = self.perturbed(delta, candidate=counts).detach().requires_grad_()
            logits = self.victim(x, self.lengths, self.owner)
            value, merit = objective(x, logits)
            stay = None
            if delta is not None and counts:
                stay = self._record(delta, logits.detach(), merit)
            gradient = input_gradient(value.sum(), x)
        if stay is None:
            kept = (gradient, *state)
        else:
            # Utterances that were just misclassified are excluded, so the pass count is the same
            # as for a batch of one.
            gone = torch.ones(len(self), dtype=torch.bool)
            gone[stay.cpu()] = False
            self.victim.book_backwards(self.owner[gone], passes=-1)
            kept = self._drop(stay, gradient, *state)
        if self.unrestricted:
            return kept
        # Not in place: the gradient of a plain sum is an expanded scalar.
        return torch.where(self.allowed, kept[0], 0.0), *kept[1:]

    def slope(
        self, delta: Float[Tensor, "A T D"], loss: Loss
    ) -> tuple[Float[Tensor, "A T D"], Float[Tensor, "A"]]:
        """Gradient and value of `loss` at a point that is not a candidate for the result."""
        values: list[Tensor] = []

        def objective(_: Tensor, logits: Tensor) -> tuple[Tensor, None]:
            value = loss(self.normalised(logits), self.labels, self.target)
            values.append(value.detach())
            return value, None

        (gradient,) = self.ascent(delta, objective, counts=False)
        return gradient, values[0]

    def observe(
        self,
        delta: Float[Tensor, "A T D"],
        *state: Tensor,
        merit: Float[Tensor, "A"] | None = None,
    ) -> tuple[Tensor, ...]:
        """Evaluate a candidate with one forward pass; returns the state of the remaining rows.

        Raises:
            SearchEnded: if no utterance remains or a limit is reached.
        """
        stay = self._record(delta, self._forward(delta), merit)
        return state if stay is None else self._drop(stay, *state)

    def logits(self, delta: Float[Tensor, "A T D"]) -> Float[Tensor, "A C"]:
        """The logits of a perturbation that is not a candidate for the result.

        Raises:
            SearchEnded: if a limit is reached.
            VictimError: if a logit is not finite.
        """
        logits = self._forward(delta)
        if not bool(torch.isfinite(logits).all()):
            raise not_finite(self.problem.batch, logits, self.owner)
        return logits

    def _forward(self, delta: Float[Tensor, "A T D"]) -> Float[Tensor, "A C"]:
        """One forward pass."""
        self.meter.spend(1)
        with torch.no_grad():
            return self.victim(self.perturbed(delta), self.lengths, self.owner)

    def fooled(self, logits: Float[Tensor, "A C"]) -> Bool[Tensor, "A"]:
        """Whether the attack succeeds, given these logits."""
        prediction = logits.argmax(1)
        return prediction != self.labels if self.target is None else prediction == self.target

    def observed_margin(self, logits: Float[Tensor, "A C"]) -> Float[Tensor, "A"]:
        """The margin as far as the attack can observe it."""
        return margin(logits, self.labels, self.target)

    def _record(
        self,
        delta: Float[Tensor, "A T D"],
        logits: Float[Tensor, "A C"],
        merit: Float[Tensor, "A"] | None,
    ) -> Int[Tensor, "S"] | None:
        """Update the best perturbations; returns the remaining rows, or `None` if all remain."""
        if versions([self.x, self.lengths, self.labels]) != self._versions:
            raise changed_in_place(self.problem.attack, "clean features, lengths or labels")
        self.steps += 1
        self.fooling = fooled = self.fooled(logits)
        self.margins = margins = self.observed_margin(logits)
        better, done = self._assess(delta, fooled, margins, merit)
        self.best_margin = torch.where(better, margins, self.best_margin)
        self.best_prediction = torch.where(better, logits.argmax(1), self.best_prediction)
        # The only device synchronisation of a step.
        some_done, finite, all_better, some_better = torch.stack(
            [done.any(), torch.isfinite(logits).all(), better.all(), better.any()]
        ).tolist()
        if all_better:
            self.best.copy_(delta)
        elif some_better:
            torch.where(better[:, None, None], delta, self.best, out=self.best)
        if not finite:
            raise not_finite(self.problem.batch, logits, self.owner)
        if not some_done:
            return None
        return self._leave(done)

    def _leave(self, done: Bool[Tensor, "A"]) -> Int[Tensor, "S"]:
        """Store the results of finished utterances; returns the remaining rows."""
        self._store_results(done.nonzero()[:, 0])
        stay = (~done).nonzero()[:, 0]
        if not len(stay):
            self.rows = self.rows[stay]
            raise SearchEnded
        return stay

    def dismiss(self, done: Bool[Tensor, "A"], *state: Tensor) -> tuple[Tensor, ...]:
        """Remove utterances with their best result so far; returns the state of the others.

        Raises:
            SearchEnded: if no utterance remains.
        """
        return self._drop(self._leave(done), *state) if bool(done.any()) else state

    def _assess(
        self,
        delta: Float[Tensor, "A T D"],
        fooled: Bool[Tensor, "A"],
        margins: Float[Tensor, "A"],
        merit: Float[Tensor, "A"] | None,
    ) -> tuple[Bool[Tensor, "A"], Bool[Tensor, "A"]]:
        """Which candidates are the best so far, and which utterances are finished."""
        if merit is None:
            return fooled | (margins > self.best_margin), fooled
        found = self.best_merit > -torch.inf
        better = torch.where(fooled, merit > self.best_merit, ~found & (margins > self.best_margin))
        self.best_merit = torch.where(better & fooled, merit, self.best_merit)
        return better, torch.zeros_like(fooled)

    def _store_results(self, done: Int[Tensor, "S"]) -> None:
        """Store the results of some active rows."""
        rows = self.rows[done]
        best = self.best if len(done) == len(self) else self.best[done]
        self._results.append((rows, best))
        self.prediction[rows] = self.best_prediction[done]
        self.steps_taken[rows] = self.steps
        self.advance(len(done))

    def _drop(self, stay: Int[Tensor, "S"], *state: Tensor) -> tuple[Tensor, ...]:
        """Restrict the set to some rows, cut to the longest of them."""
        generators = self.noise.select(stay.tolist())
        self._enter(self.rows[stay])
        self.noise = generators
        frames = self.x.shape[1]

        def restricted(tensor: Tensor) -> Tensor:
            return tensor[stay, :frames] if tensor.ndim > 2 else tensor[stay]

        self.best = restricted(self.best)
        self.best_margin = self.best_margin[stay]
        self.best_merit = self.best_merit[stay]
        self.fooling = self.fooling[stay]
        self.margins = self.margins[stay]
        self.best_prediction = self.best_prediction[stay]
        return tuple(restricted(tensor) for tensor in state)

    def result(self) -> AttackResult:
        """The result for all utterances of the problem; active ones return their best so far."""
        if len(self.rows):
            self._store_results(torch.arange(len(self.rows), device=self.rows.device))
            self.rows = self.rows[:0]
        problem = self.problem
        x_adv = problem.batch.x.clone()
        for rows, delta in self._results:
            frames = delta.shape[1]
            moved = x_adv[rows, :frames] + delta
            x_adv[rows, :frames] = rounded_inside(
                moved, self._all_low[rows, :frames], self._all_high[rows, :frames]
            )
        wrong = self.prediction != problem.labels
        return AttackResult(
            x_adv=x_adv,
            success=wrong if problem.target is None else self.prediction == problem.target,
            prediction=self.prediction,
            steps=self.steps_taken,
            forwards=self.victim.forwards.to(problem.batch.device, copy=True),
            backwards=self.victim.backwards.to(problem.batch.device, copy=True),
        )
