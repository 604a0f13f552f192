"""Claims about masked attacks, each tested against the rows of a run by a stated criterion.

The claims are those of the abstract of the paper on SIGMA (arXiv 2606.30550), in our words. The
criteria are our choice, because the abstract states none. A claim is supported if the whole 95 %
interval of its figure, a bootstrap over utterances, meets the criterion.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from sigma_ser.statistics.bootstrap import bootstrap_interval

from .claim_figures import (
    MEASURE,
    Figure,
    UntestableError,
    carried_gain,
    consistency_gain,
    least_gain,
    rank_correlation,
    reuse_cost,
    success_loss,
)
from .notes import ENOUGH
from .paired import CONTEST, METHOD, TRIAL
from .rates import UTTERANCE, attacks_only, correct_rows

if TYPE_CHECKING:
    import polars as pl

Verdict = Literal["supported", "not supported", "not testable here"]
# Loss of success that still counts as competitive.
LOSS = 0.1
# Share of the gain over a random mask that must carry over to another victim.
CARRIED = 0.5
_PASSES = ("forwards", "backwards", "mask_forwards", "mask_backwards")
_DRAWS = 1000


@dataclass(frozen=True)
class Claim:
    """One claim with its test.

    `figure` has the ends of its 95 % interval; they are null where the claim is not testable, and
    `reason` says why.
    """

    corpus: str
    claim: str
    criterion: str
    verdict: Verdict
    figure: float | None = None
    low: float | None = None
    high: float | None = None
    utterances: int = 0
    reason: str = ""


@dataclass(frozen=True)
class _Test:
    """A claim: `measure` returns statistic and number of utterances; `accepts` reads its ends."""

    claim: str
    criterion: str
    measure: Callable[[pl.DataFrame], Figure]
    accepts: Callable[[float, float], bool]


def claims(rows: pl.DataFrame) -> pl.DataFrame:
    """Test every claim on every corpus of a run.

    Args:
        rows: the columns of `core.rows`; natural corruptions are left out.

    Returns:
        One line for each corpus and claim, and one for the agreement of the corpora: the attributes
        of `Claim`.
    """
    import polars as pl

    wanted = (*CONTEST, *METHOD, *TRIAL, *UTTERANCE, *_PASSES, "success", MEASURE)
    kept = correct_rows(attacks_only(rows), *wanted)
    found = [
        _tested(test, corpus, part)
        for (corpus,), part in kept.group_by("corpus", maintain_order=True)
        for test in _TESTS
    ]
    lines = [asdict(one) for one in [*found, _agreement(found)]]
    return pl.DataFrame(lines, infer_schema_length=None)


def _tested(test: _Test, corpus: object, rows: pl.DataFrame) -> Claim:
    try:
        statistic, count = test.measure(rows)
        if count < ENOUGH:
            raise UntestableError(f"{count} utterances were compared; {ENOUGH} are needed")
        figure = float(statistic(np.ones((1, count)))[0])
        low, high = bootstrap_interval(statistic, count, resamples=_DRAWS)
        if not math.isfinite(figure + low + high):
            raise UntestableError("the figure is not defined in every resample")
    except UntestableError as lacking:
        return Claim(
            str(corpus), test.claim, test.criterion, "not testable here", reason=str(lacking)
        )
    verdict: Verdict = "supported" if test.accepts(low, high) else "not supported"
    return Claim(str(corpus), test.claim, test.criterion, verdict, figure, low, high, count)


def _agreement(found: Sequence[Claim]) -> Claim:
    """Whether the corpora of the paper give the same verdicts."""
    claim = "The results hold on IEMOCAP and on TESS."
    criterion = "the same verdict of every claim that is testable on both"
    by_corpus = {
        kind: {one.claim: one.verdict for one in found if one.corpus.startswith(kind)}
        for kind in ("iemocap", "tess")
    }
    lacking = [kind for kind, verdicts in by_corpus.items() if not verdicts]
    if lacking:
        reason = f"the run has no rows of {' and '.join(map(str.upper, lacking))}"
        return Claim("all", claim, criterion, "not testable here", reason=reason)
    one, other = by_corpus.values()
    both = [name for name in one if "not testable here" not in (one[name], other[name])]
    if not both:
        return Claim(
            "all", claim, criterion, "not testable here", reason="no claim is testable on both"
        )
    same = sum(one[name] == other[name] for name in both)
    verdict: Verdict = "supported" if same == len(both) else "not supported"
    return Claim("all", claim, criterion, verdict, same / len(both))


_TESTS: tuple[_Test, ...] = (
    _Test(
        "A mask that is computed once and reused makes attacks cheaper.",
        "passes with masks / without: the interval lies below 1",
        reuse_cost,
        lambda _, high: high < 1,
    ),
    _Test(
        "Masks can be reused on other victims.",
        f"gain over random masks, others' masks / own: the interval lies above {CARRIED:g}",
        carried_gain,
        lambda low, _: low > CARRIED,
    ),
    _Test(
        "Masks can be reused by different sparse attacks.",
        "gain of success over random masks, the least of all attacks: the interval lies above 0",
        least_gain,
        lambda low, _: low > 0,
    ),
    _Test(
        "Attacks in masks stay competitive under matched budgets.",
        f"loss of success against native attacks, largest masks: the interval lies below {LOSS:g}",
        success_loss,
        lambda _, high: high < LOSS,
    ),
    _Test(
        "Masks keep explanations more consistent than a free choice of elements.",
        f"gain of {MEASURE} over the native attack: the interval lies above 0",
        consistency_gain,
        lambda low, _: low > 0,
    ),
    _Test(
        "Attack success and consistency of explanations are a trade-off.",
        "rank correlation over attacks at equal budgets: the interval lies below 0",
        rank_correlation,
        lambda _, high: high < 0,
    ),
)
