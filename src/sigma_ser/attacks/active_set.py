"""The utterances that an attack still works on: it asks the victim, and the fooled ones leave."""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from sigma_ser.core.contracts import AttackResult

from .limits import Meter, SearchEnded
from .losses import Loss, margin
from .sparse_ball import SparseBall
from .task import Task, not_finite

# What is climbed, of the perturbed features and their logits: `(value (A,), merit (A,) or None)`.
Objective = Callable[[Tensor, Tensor], tuple[Tensor, Tensor | None]]


class ActiveSet(SparseBall):
    """The rows of a task that are not yet fooled, and the best perturbation of every row.

    Tensors of the active set have one row for each utterance that is left, cut to the longest of
    them. `gradient` and `observe` evaluate a perturbation, remember it where its margin is the
    best so far, let the fooled utterances go, and hand back the caller's own state for those that
    stay. They raise :class:`SearchEnded` when nobody is left or a limit is reached, so that the
    loop of an attack need not ask.

    Attributes:
        labels: `(A,)`. target: `(A,)` or `None`.
        rivals: `(A, C - 1)` the other classes, the likeliest on the clean input first.
        noise: draws for each utterance that is left.
        fooling, margins: `(A,)` whether the last perturbation that counted fools, and its margin.
        best: `(A, T, D)` the best perturbation so far; best_margin, best_merit: `(A,)` its own.
    """

    def __init__(self, task: Task, rows: Int[Tensor, "A"]) -> None:
        super().__init__(task)
        self.victim = task.victim
        self.meter = Meter(task.limits)
        self.steps = 0
        batch = task.batch
        order = task.clean_logits.argsort(dim=1, descending=True, stable=True)
        others = order != task.labels[:, None]
        self._all_rivals = order[others].view(len(order), -1)

        # Features of the result are made at the end: until then the search needs the memory.
        self._settled: list[tuple[Tensor, Tensor]] = []
        self.prediction = task.clean_logits.argmax(1)
        self.steps_taken = torch.zeros_like(batch.lengths)
        self.rows = rows
        if len(rows):
            self._enter(rows)
            self.best = torch.zeros_like(self.x)
            self.best_margin = torch.full(rows.shape, -torch.inf, device=batch.device)
            self.best_merit = self.best_margin.clone()
            self.margins = self.best_margin.clone()
            self.fooling = torch.zeros_like(rows, dtype=torch.bool)
            self.best_prediction = self.prediction[rows]

    def _enter(self, rows: Int[Tensor, "A"]) -> None:
        """Take the utterances `rows` of the task into the set."""
        self.restrict(rows)
        task = self.task
        self.rows = rows
        self.owner = rows.cpu()  # kept there, because passes are booked there
        self.labels = task.labels[rows]
        self.target = None if task.target is None else task.target[rows]
        self.rivals = self._all_rivals[rows]
        self.noise = task.noise.select(self.owner.tolist())

    def __len__(self) -> int:
        return len(self.rows)

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
            delta: where; `None` is the clean input, which is never a result.
            loss: see :mod:`.losses`.
            state: tensors of the caller with a row for each active utterance.
            rival: rank of the class that an untargeted attack is drawn to; `None`: any.
            counts: whether the perturbation may be a result; if not, nobody leaves.

        Returns:
            The gradient `(A', T', D)`, then the state, for the utterances that stay.

        Raises:
            SearchEnded: if nobody is left or a limit is reached.
        """
        target = self.target if rival is None else self.rivals[:, rival]
        return self.ascent(
            delta, lambda _, logits: (loss(logits, self.labels, target), None), *state,
            counts=counts,
        )  # fmt: skip

    def ascent(
        self,
        delta: Float[Tensor, "A T D"] | None,
        objective: Objective,
        *state: Tensor,
        counts: bool = True,
    ) -> tuple[Tensor, ...]:
        """As :meth:`gradient`, for an objective of features and logits.

        An objective with a merit says that to fool is not all: nobody leaves, and of the fooling
        perturbations the one of largest merit is the best.
        """
        self.meter.spend(2)
        with torch.enable_grad():
            # A leaf of its own: the victim's parameters get no gradient.
            x = (self.x if delta is None else self.x + delta).detach().requires_grad_()
            logits = self.victim(x, self.lengths, self.owner)
            value, merit = objective(x, logits)
            stay = None
            if delta is not None and counts:
                stay = self._record(delta, logits.detach(), merit)
            (gradient,) = torch.autograd.grad(value.sum(), x)
        if stay is None:
            kept = (gradient, *state)
        else:
            # Whoever has just been fooled needed no gradient, and alone would have had none.
            gone = torch.ones(len(self), dtype=torch.bool)
            gone[stay.cpu()] = False
            self.victim.book_backwards(self.owner[gone], passes=-1)
            kept = self._drop(stay, gradient, *state)
        if self.unrestricted:
            return kept
        # Not in place: the gradient of a sum is one number, expanded.
        return torch.where(self.allowed, kept[0], 0.0), *kept[1:]

    def slope(
        self, delta: Float[Tensor, "A T D"], loss: Loss
    ) -> tuple[Float[Tensor, "A T D"], Float[Tensor, "A"]]:
        """Gradient and value of `loss` at a point that is no result, so that nobody leaves."""
        values: list[Tensor] = []

        def objective(_: Tensor, logits: Tensor) -> tuple[Tensor, None]:
            value = loss(logits, self.labels, self.target)
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
        """Evaluate a perturbation with one forward pass; returns the state of those that stay.

        Raises:
            SearchEnded: if nobody is left or a limit is reached.
        """
        stay = self._record(delta, self._answer(delta), merit)
        return state if stay is None else self._drop(stay, *state)

    def logits(self, delta: Float[Tensor, "A T D"]) -> Float[Tensor, "A C"]:
        """The victim's answer to a perturbation, which does not count as a result.

        Raises:
            SearchEnded: if a limit is reached.
            VictimError: if a logit is not finite.
        """
        logits = self._answer(delta)
        if not bool(torch.isfinite(logits).all()):
            raise not_finite(self.task.batch, logits, self.owner)
        return logits

    def _answer(self, delta: Float[Tensor, "A T D"]) -> Float[Tensor, "A C"]:
        """One forward pass."""
        self.meter.spend(1)
        with torch.no_grad():
            return self.victim(self.x + delta, self.lengths, self.owner)

    def fooled(self, logits: Float[Tensor, "A C"]) -> Bool[Tensor, "A"]:
        """Whether the attack has reached its goal."""
        prediction = logits.argmax(1)
        return prediction != self.labels if self.target is None else prediction == self.target

    def told(self, logits: Float[Tensor, "A C"]) -> Float[Tensor, "A"]:
        """What the attack learns from an answer of the victim: its margin."""
        return margin(logits, self.labels, self.target)

    def _record(
        self,
        delta: Float[Tensor, "A T D"],
        logits: Float[Tensor, "A C"],
        merit: Float[Tensor, "A"] | None,
    ) -> Int[Tensor, "S"] | None:
        """Keep the best iterates; rows that stay, or `None` if all do."""
        self.steps += 1
        self.fooling = fooled = self.fooled(logits)
        self.margins = margins = self.told(logits)
        better, done = self._judge(delta, fooled, margins, merit)
        self.best_margin = torch.where(better, margins, self.best_margin)
        self.best_prediction = torch.where(better, logits.argmax(1), self.best_prediction)
        # The one synchronisation of a step.
        some_done, finite, all_better, some_better = torch.stack(
            [done.any(), torch.isfinite(logits).all(), better.all(), better.any()]
        ).tolist()
        if all_better:
            self.best.copy_(delta)
        elif some_better:
            torch.where(better[:, None, None], delta, self.best, out=self.best)
        if not finite:
            raise not_finite(self.task.batch, logits, self.owner)
        if not some_done:
            return None
        return self._leave(done)

    def _leave(self, done: Bool[Tensor, "A"]) -> Int[Tensor, "S"]:
        """Write down the results of those that are done; rows that stay."""
        self._settle(done.nonzero()[:, 0])
        stay = (~done).nonzero()[:, 0]
        if not len(stay):
            self.rows = self.rows[stay]
            raise SearchEnded
        return stay

    def dismiss(self, done: Bool[Tensor, "A"], *state: Tensor) -> tuple[Tensor, ...]:
        """Let utterances go with the best that they have; returns the state of those that stay.

        Raises:
            SearchEnded: if nobody stays.
        """
        return self._drop(self._leave(done), *state) if bool(done.any()) else state

    def _judge(
        self,
        delta: Float[Tensor, "A T D"],
        fooled: Bool[Tensor, "A"],
        margins: Float[Tensor, "A"],
        merit: Float[Tensor, "A"] | None,
    ) -> tuple[Bool[Tensor, "A"], Bool[Tensor, "A"]]:
        """Which iterates are the best so far, and which utterances are done with."""
        if merit is None:
            return fooled | (margins > self.best_margin), fooled
        found = self.best_merit > -torch.inf
        better = torch.where(fooled, merit > self.best_merit, ~found & (margins > self.best_margin))
        self.best_merit = torch.where(better & fooled, merit, self.best_merit)
        return better, torch.zeros_like(fooled)

    def _settle(self, done: Int[Tensor, "S"]) -> None:
        """Write down the result of some active rows."""
        rows = self.rows[done]
        best = self.best if len(done) == len(self) else self.best[done]
        self._settled.append((rows, best))
        self.prediction[rows] = self.best_prediction[done]
        self.steps_taken[rows] = self.steps

    def _drop(self, stay: Int[Tensor, "S"], *state: Tensor) -> tuple[Tensor, ...]:
        """Go on with some rows only, cut to the longest of them."""
        generators = self.noise.select(stay.tolist())
        self._enter(self.rows[stay])
        self.noise = generators
        frames = self.x.shape[1]

        def left(tensor: Tensor) -> Tensor:
            return tensor[stay, :frames] if tensor.ndim > 2 else tensor[stay]

        self.best = left(self.best)
        self.best_margin = self.best_margin[stay]
        self.best_merit = self.best_merit[stay]
        self.fooling = self.fooling[stay]
        self.margins = self.margins[stay]
        self.best_prediction = self.best_prediction[stay]
        return tuple(left(tensor) for tensor in state)

    def result(self) -> AttackResult:
        """The result for all utterances of the task; those still active give their best so far."""
        if len(self.rows):
            self._settle(torch.arange(len(self.rows), device=self.rows.device))
            self.rows = self.rows[:0]
        task = self.task
        x_adv = task.batch.x.clone()
        for rows, delta in self._settled:
            x_adv[rows, : delta.shape[1]] += delta
        wrong = self.prediction != task.labels
        return AttackResult(
            x_adv=x_adv,
            success=wrong if task.target is None else self.prediction == task.target,
            prediction=self.prediction,
            steps=self.steps_taken,
            forwards=self.victim.forwards.to(task.batch.device, copy=True),
            backwards=self.victim.backwards.to(task.batch.device, copy=True),
        )
