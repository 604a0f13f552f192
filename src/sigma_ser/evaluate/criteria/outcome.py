"""The outcome of one criterion, decided by a confidence interval, and of all together."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

Result = Literal["pass", "fail", "inconclusive"]


@dataclass(frozen=True, kw_only=True)
class Figure:
    """A measured value with its 95 % interval.

    Args:
        value: the value, in [0, 1]; NaN if it cannot be measured.
        low: lower end of the interval.
        high: upper end of the interval.
        n: number of utterances behind it.
    """

    value: float
    low: float
    high: float
    n: int

    @property
    def known(self) -> bool:
        """Whether there is a value with an interval."""
        return not math.isnan(self.value + self.low + self.high)


UNKNOWN = Figure(value=math.nan, low=math.nan, high=math.nan, n=0)


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What the results say about one criterion.

    Args:
        name: the criterion in words.
        kind: key of the criterion in its file.
        limit: the declared limit.
        at_least: whether the limit is the least value that passes; else it is the largest.
        figure: the measured value.
        result: `pass`, `fail` or `inconclusive`.
        reason: why the result is not the one of the interval alone, or what the figure leaves out.
        more: about how many more utterances would decide, if the value stays the same; `None` if
            the criterion is decided, or if no number would.
    """

    name: str
    kind: str
    limit: float
    at_least: bool
    figure: Figure
    result: Result
    reason: str = ""
    more: int | None = None


def decide(figure: Figure, limit: float, *, at_least: bool) -> Result:
    """The result of a criterion: `inconclusive` where the interval contains values of both sides.

    >>> decide(Figure(value=0.1, low=0.05, high=0.2, n=100), 0.2, at_least=False)
    'pass'
    >>> decide(Figure(value=0.1, low=0.05, high=0.2, n=100), 0.15, at_least=False)
    'inconclusive'
    >>> decide(Figure(value=0.1, low=0.05, high=0.2, n=100), 0.3, at_least=True)
    'fail'
    """
    if not figure.known:
        return "inconclusive"
    low, high, edge = figure.low, figure.high, limit
    if at_least:
        low, high, edge = -high, -low, -limit
    if high <= edge:
        return "pass"
    return "fail" if low > edge else "inconclusive"


def utterances_needed(figure: Figure, limit: float) -> int | None:
    """About how many more utterances decide a criterion, if the value stays as it is.

    The width of an interval falls with the square root of the number of utterances.

    >>> utterances_needed(Figure(value=0.1, low=0.02, high=0.18, n=50), 0.14)
    150
    """
    if not figure.known or figure.value == limit:
        return None
    side = figure.high - figure.value if limit > figure.value else figure.value - figure.low
    needed = figure.n * (side / abs(figure.value - limit)) ** 2
    return max(math.ceil(round(needed, 6)) - figure.n, 1)


def overall(outcomes: Sequence[Outcome]) -> Result:
    """`fail` if one criterion fails, `pass` if all pass, otherwise `inconclusive`."""
    results = {one.result for one in outcomes}
    if "fail" in results:
        return "fail"
    return "pass" if results == {"pass"} else "inconclusive"
