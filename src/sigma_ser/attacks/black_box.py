"""Black-box attacks: they observe logits or decisions, use no gradient, and log their queries."""

from __future__ import annotations

import dataclasses
from typing import Literal, get_args

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from sigma_ser.core.contracts import AttackResult
from sigma_ser.core.errors import AttackError

from .active_set import ActiveSet
from .base import SparseAttack
from .losses import margin
from .problem import Problem

Feedback = Literal["logits", "decision"]


@dataclasses.dataclass(frozen=True, eq=False)
class QueryLog:
    """The queries of an attack and the largest margin observed.

    Attributes:
        queries: `(B,)` number of forward passes per utterance until success or the end of the
            search; the classification of the clean input is query 1.
        best_margin: `(B, Q)` the largest margin over the first 1, 2, ... queries, positive after
            a success and NaN after the last query. With decision feedback, 1 means success and -1
            means no success.
    """

    queries: Int[Tensor, "B"]
    best_margin: Float[Tensor, "B Q"]

    def success_rate(self, queries: int) -> float:
        """Fraction of all utterances that are misclassified within `queries` queries, in [0, 1]."""
        within = self.best_margin[:, :queries].nan_to_num(nan=-torch.inf)
        return float((within.amax(1) > 0).float().mean()) if len(within) else 0.0


@dataclasses.dataclass(frozen=True, eq=False)
class QueriedResult(AttackResult):
    """The result of a black-box attack, with the `log` of its queries."""

    log: QueryLog


class QueriedSet(ActiveSet):
    """An active set that logs every query and exposes only what `feedback` allows."""

    def __init__(self, problem: Problem, rows: Int[Tensor, "A"], feedback: Feedback) -> None:
        self.feedback = feedback
        clean = margin(problem.clean_logits, problem.labels, problem.target)
        self._best_so_far = [clean if feedback == "logits" else _decision(clean > 0)]
        super().__init__(problem, rows)

    def observed_margin(self, logits: Float[Tensor, "A C"]) -> Float[Tensor, "A"]:
        if self.feedback == "logits":
            return super().observed_margin(logits)
        return _decision(self.fooled(logits))

    def _forward(self, delta: Float[Tensor, "A T D"]) -> Float[Tensor, "A C"]:
        logits = super()._forward(delta)
        latest = self._best_so_far[-1].clone()
        latest[self.rows] = torch.maximum(latest[self.rows], self.observed_margin(logits))
        self._best_so_far.append(latest)
        return logits

    def result(self) -> QueriedResult:
        result = super().result()
        margins = torch.stack(self._best_so_far, 1)
        number = torch.arange(margins.shape[1], device=margins.device)
        queried = number[None, :] < result.forwards[:, None]
        log = QueryLog(result.forwards, margins.masked_fill(~queried, torch.nan))
        return QueriedResult(**vars(result), log=log)


def _decision(fooled: Bool[Tensor, "A"]) -> Float[Tensor, "A"]:
    """The margin under decision feedback: 1 for a success, otherwise -1."""
    return torch.where(fooled, 1.0, -1.0).float()


@dataclasses.dataclass(frozen=True, kw_only=True, repr=False)
class BlackBoxAttack(SparseAttack):
    """A gradient-free attack; its result has a `log` of the queries.

    Args:
        feedback: what each query returns: `logits`, or only the predicted class (`decision`).
    """

    feedback: Feedback = "logits"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.feedback not in get_args(Feedback):
            raise AttackError(f"feedback must be logits or decision, got {self.feedback!r}")

    def active_set(self, problem: Problem, rows: Int[Tensor, "A"]) -> QueriedSet:
        return QueriedSet(problem, rows, self.feedback)
