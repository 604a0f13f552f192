"""Attacks that only ask: they see logits or decisions, need no gradient, and log their queries."""

from __future__ import annotations

import dataclasses
from typing import Literal, get_args

import torch
from jaxtyping import Float, Int
from torch import Tensor

from sigma_ser.core.contracts import AttackResult
from sigma_ser.core.errors import AttackError

from .active_set import ActiveSet
from .base import SparseAttack
from .losses import margin
from .task import Task

Feedback = Literal["logits", "decision"]


@dataclasses.dataclass(frozen=True, eq=False)
class QueryLog:
    """What was asked of the victim, and what it told.

    Attributes:
        queries: `(B,)` forward passes of each utterance until it was fooled, or until the attack
            gave up; its first classification is query number 1.
        best_margin: `(B, Q)` the largest margin over the first 1, 2, ... queries, above 0 once
            the utterance is fooled; NaN behind its last query. Where only decisions are told, 1
            stands for fooled and -1 for not.
    """

    queries: Int[Tensor, "B"]
    best_margin: Float[Tensor, "B Q"]

    def success_rate(self, queries: int) -> float:
        """Share of all utterances that are fooled within so many queries."""
        within = self.best_margin[:, :queries].nan_to_num(nan=-torch.inf)
        return float((within.amax(1) > 0).float().mean()) if len(within) else 0.0


@dataclasses.dataclass(frozen=True, eq=False)
class QueriedResult(AttackResult):
    """The result of a black-box attack, with its `log`."""

    log: QueryLog


class QueriedSet(ActiveSet):
    """An active set that writes down every query, and tells no more than `feedback` allows."""

    def __init__(self, task: Task, rows: Int[Tensor, "A"], feedback: Feedback) -> None:
        self.feedback = feedback
        clean = margin(task.clean_logits, task.labels, task.target)
        self._best_so_far = [clean if feedback == "logits" else torch.where(clean > 0, 1.0, -1.0)]
        super().__init__(task, rows)

    def told(self, logits: Float[Tensor, "A C"]) -> Float[Tensor, "A"]:
        if self.feedback == "logits":
            return super().told(logits)
        return torch.where(self.fooled(logits), 1.0, -1.0)

    def _answer(self, delta: Float[Tensor, "A T D"]) -> Float[Tensor, "A C"]:
        answer = super()._answer(delta)
        latest = self._best_so_far[-1].clone()
        latest[self.rows] = torch.maximum(latest[self.rows], self.told(answer))
        self._best_so_far.append(latest)
        return answer

    def result(self) -> QueriedResult:
        result = super().result()
        margins = torch.stack(self._best_so_far, 1)
        number = torch.arange(margins.shape[1], device=margins.device)
        asked = number[None, :] < result.forwards[:, None]
        log = QueryLog(result.forwards, margins.masked_fill(~asked, torch.nan))
        return QueriedResult(**vars(result), log=log)


@dataclasses.dataclass(frozen=True, kw_only=True, repr=False)
class BlackBoxAttack(SparseAttack):
    """An attack that asks for no gradient; its result has a `log` of the queries.

    Args:
        feedback: what it is told of each query: `logits`, or the `decision` alone.
    """

    feedback: Feedback = "logits"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.feedback not in get_args(Feedback):
            raise AttackError(f"feedback must be logits or decision, got {self.feedback!r}")

    def active_set(self, task: Task, rows: Int[Tensor, "A"]) -> QueriedSet:
        return QueriedSet(task, rows, self.feedback)
