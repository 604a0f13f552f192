"""What the rows of an audit say about each declared criterion."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from sigma_ser.evaluate.groups import worst_case
from sigma_ser.evaluate.rates import UTTERANCE, headline
from sigma_ser.statistics.bootstrap import mean_interval
from sigma_ser.statistics.proportion import wilson_interval

from .declared import (
    AttackSuccess,
    AuditBudget,
    Certified,
    Corrupted,
    Criteria,
    ExplanationKept,
    GroupGap,
)
from .findings import Finding
from .outcome import UNKNOWN, Figure, Outcome, decide, utterances_needed

if TYPE_CHECKING:
    import polars as pl

# A group with fewer utterances is left out of comparisons between groups.
LEAST_GROUP = 5
_MASKED = "the gradients are masked, so the success rate is only a lower bound"


def outcomes_of(
    criteria: Criteria,
    rows: pl.DataFrame,
    victim: Mapping[str, Any],
    certificates: pl.DataFrame | None = None,
    found: Sequence[Finding] = (),
    *,
    masked: Collection[str] | None = None,
) -> list[Outcome]:
    """The outcome of every criterion, in the order of the file.

    Args:
        criteria: the declared criteria.
        rows: the columns of `core.rows`, of one victim.
        victim: its line in `victims.json`: `uar`, `uar_low`, `uar_high`, `test_utterances`,
            `gradient_check`.
        certificates: the lines of `certificates.parquet`, where bounds were computed.
        found: findings; one that prevents a pass makes each pass inconclusive.
        masked: surfaces on which the gradients are masked; those of the victim's own line by
            default.
    """
    rows = headline(rows)
    if masked is None:
        signs = (victim.get("gradient_check") or {}).get("signs")
        masked = {str(victim.get("surface", "features"))} if signs else set()
    least = criteria.utterances
    outcomes = []
    if criteria.clean_uar is not None:
        figure = Figure(
            value=victim["uar"], low=victim["uar_low"], high=victim["uar_high"],
            n=victim["test_utterances"],
        )  # fmt: skip
        name = "UAR on unchanged recordings"
        outcomes.append(_outcome(name, "clean_uar", figure, criteria.clean_uar, at_least=True))
    outcomes += [
        *(
            _enough(_attack_success(one, rows, certificates, masked), least)
            for one in criteria.attack_success
        ),
        *(_enough(_corrupted(one, rows), least) for one in criteria.corrupted),
        *(_certified(one, certificates) for one in criteria.certified),
        *(_group_gap(one, rows, masked) for one in criteria.group_gap),
        *(_explanation_kept(one, rows) for one in criteria.explanation_kept),
    ]
    reasons = [finding for finding in found if finding.prevents_pass]
    if not reasons:
        return outcomes
    reason = f"no criterion passes with the finding {reasons[0].code}"
    return [
        dataclasses.replace(one, result="inconclusive", reason=_joined(one.reason, reason))
        if one.result == "pass"
        else one
        for one in outcomes
    ]


def _attack_success(
    criterion: AttackSuccess,
    rows: pl.DataFrame,
    certificates: pl.DataFrame | None,
    masked: Collection[str],
) -> Outcome:
    name = f"success of the strongest attack {budget_words(criterion.budget)}"
    table = worst_case(at_budget(rows, criterion.budget))
    figure = UNKNOWN
    if len(table) and table["utterances"].item():
        (line,) = table.to_dicts()
        figure = Figure(
            value=line["worst_case_asr"], low=line["worst_case_asr_low"],
            high=line["worst_case_asr_high"], n=line["utterances"],
        )  # fmt: skip
    outcome = _outcome(name, "attack_success", figure, criterion.at_most, at_least=False)
    proven = _protected(criterion.budget, certificates)
    if proven is not None and outcome.result != "fail" and 1 - proven.low <= criterion.at_most:
        reason = f"a proven bound leaves at most {100 * (1 - proven.low):.0f} % for any attack"
        return dataclasses.replace(outcome, result="pass", reason=reason, more=None)
    if criterion.surface in masked and outcome.result == "pass":
        return dataclasses.replace(outcome, result="inconclusive", reason=_MASKED)
    return outcome


def _corrupted(criterion: Corrupted, rows: pl.DataFrame) -> Outcome:
    import polars as pl

    ratio = "" if criterion.snr is None else f" at {criterion.snr:g} dB"
    name = f"utterances misclassified after the corruption {criterion.corruption}{ratio}"
    right = rows.filter(
        pl.col("granularity").is_null(), pl.col("attack") == criterion.corruption, "correct_before"
    )
    if criterion.snr is not None:
        right = right.filter((pl.col("budget_snr") - criterion.snr).abs() < 1e-9)
    figure = _proportion(int(right["success"].sum()), len(right))
    return _outcome(name, "corrupted", figure, criterion.at_most, at_least=False)


def _enough(outcome: Outcome, least: int) -> Outcome:
    """An outcome that does not pass with fewer utterances than the criteria require."""
    short = least - outcome.figure.n
    if outcome.result != "pass" or short <= 0:
        return outcome
    reason = _joined(outcome.reason, f"the criteria require {least} utterances")
    return dataclasses.replace(outcome, result="inconclusive", reason=reason, more=short)


def _certified(criterion: Certified, certificates: pl.DataFrame | None) -> Outcome:
    name = f"utterances with a proven bound {budget_words(criterion.budget)}"
    figure = _protected(criterion.budget, certificates)
    outcome = _outcome(name, "certified", figure or UNKNOWN, criterion.at_least, at_least=True)
    if figure is None:
        reason = "no method of certification with a proof suits this model"
        return dataclasses.replace(outcome, reason=reason)
    return outcome


def _protected(budget: AuditBudget, certificates: pl.DataFrame | None) -> Figure | None:
    """The share of correctly classified utterances with a proven bound, without masks."""
    if certificates is None or budget.surface != "features":
        return None
    import polars as pl

    # Frame ablation certifies another model, the smoothed one.
    own = pl.col("method") != "frame-ablation"
    # A bound inside a mask leaves other attacks open.
    free = pl.col("explainer").is_null()
    lines = at_budget(certificates, budget).filter("proven", own, free)
    if not len(lines):
        return None
    # The best proven method decides, utterance by utterance.
    shares = lines.filter("correct").group_by(UTTERANCE).agg(pl.col("certified").any())
    return _proportion(int(shares["certified"].sum()), len(shares))


def _group_gap(criterion: GroupGap, rows: pl.DataFrame, masked: Collection[str]) -> Outcome:
    import polars as pl

    where = "" if criterion.budget is None else f" {budget_words(criterion.budget)}"
    what = "accuracy on unchanged recordings"
    what = what if criterion.budget is None else f"attack success{where}"
    groups = {"label": "emotions", "speaker": "speakers"}[criterion.group]
    if criterion.budget is None:
        # Unchanged recordings are those of the features; on the waveform they are fewer.
        own = rows.filter(pl.col("surface") == rows["surface"].min())
        table = own.unique([*UTTERANCE, criterion.group], maintain_order=True)
        counts = table.group_by(criterion.group, maintain_order=True).agg(
            pl.col("correct_before").sum().alias("hits"), pl.len().alias("n")
        )
    else:
        counts = worst_case(at_budget(rows, criterion.budget), [criterion.group]).select(
            criterion.group, pl.col("flipped").alias("hits"), pl.col("utterances").alias("n")
        )
    large = counts.drop_nulls(criterion.group).filter(pl.col("n") >= LEAST_GROUP)
    figure = largest_gap(large["hits"].to_list(), large["n"].to_list())
    name = f"largest difference between {groups} in {what}"
    outcome = _outcome(name, "group_gap", figure, criterion.at_most, at_least=False)
    left = len(counts) - len(large)
    if left:
        reason = f"{left} of {len(counts)} {groups} have fewer than {LEAST_GROUP} utterances"
        outcome = dataclasses.replace(outcome, reason=reason)
    at_risk = criterion.budget is not None and criterion.budget.surface in masked
    if at_risk and outcome.result == "pass":
        reason = _joined(outcome.reason, _MASKED)
        return dataclasses.replace(outcome, result="inconclusive", reason=reason)
    return outcome


def largest_gap(hits: Sequence[int], trials: Sequence[int]) -> Figure:
    """The largest difference of two proportions, with a simultaneous 95 % interval.

    The interval of each pair is the hybrid score interval (Newcombe 1998, method 10) at a level
    that Bonferroni's correction raises for the number of pairs.

    >>> figure = largest_gap([9, 5, 6], [10, 10, 10])
    >>> round(figure.value, 2), figure.low < 0.4 < figure.high
    (0.4, True)
    """
    pairs = list(itertools.combinations(range(len(hits)), 2))
    if not pairs:
        return UNKNOWN
    level = 1 - 0.05 / len(pairs)
    share = np.array(hits) / np.array(trials)
    low, high = wilson_interval(np.array(hits, float), np.array(trials, float), level=level)
    value, least, most = 0.0, 0.0, 0.0
    for one, other in pairs:
        first, second = (one, other) if share[one] >= share[other] else (other, one)
        gap = share[first] - share[second]
        below = math.hypot(share[first] - low[first], high[second] - share[second])
        above = math.hypot(high[first] - share[first], share[second] - low[second])
        value, least, most = max(value, gap), max(least, gap - below), max(most, gap + above)
    return Figure(value=float(value), low=float(least), high=float(most), n=sum(trials))


def _explanation_kept(criterion: ExplanationKept, rows: pl.DataFrame) -> Outcome:
    import polars as pl

    name = (
        f"agreement of explanations before and after successful attacks ({criterion.measure}) "
        f"{budget_words(criterion.budget)}"
    )
    real = (pl.col("attack") != "random") & (pl.col("explainer").fill_null("") != "random")
    flipped = at_budget(rows, criterion.budget).filter("correct_before", "success", real)
    # Attacks on one utterance are no independent samples.
    means = (
        flipped.drop_nulls(criterion.measure)
        .group_by(UTTERANCE)
        .agg(pl.col(criterion.measure).mean())
    )
    values = means.sort(UTTERANCE)[criterion.measure].to_numpy()
    figure = UNKNOWN
    if len(values) > 1:
        low, high = mean_interval(values)
        figure = Figure(value=float(values.mean()), low=low, high=high, n=len(values))
    outcome = _outcome(name, "explanation_kept", figure, criterion.at_least, at_least=True)
    if not figure.known:
        return dataclasses.replace(
            outcome, reason="fewer than two attacks with an explanation succeeded"
        )
    return outcome


def _outcome(name: str, kind: str, figure: Figure, limit: float, *, at_least: bool) -> Outcome:
    result = decide(figure, limit, at_least=at_least)
    more = utterances_needed(figure, limit) if result == "inconclusive" else None
    reason = "" if figure.known else "it was not measured"
    return Outcome(
        name=name, kind=kind, limit=limit, at_least=at_least, figure=figure, result=result,
        reason=reason, more=more,
    )  # fmt: skip


def _proportion(hits: int, trials: int) -> Figure:
    if not trials:
        return UNKNOWN
    low, high = wilson_interval(np.array([float(hits)]), np.array([float(trials)]))
    return Figure(value=hits / trials, low=float(low[0]), high=float(high[0]), n=trials)


def at_budget(table: pl.DataFrame, budget: AuditBudget) -> pl.DataFrame:
    """The lines of one budget, of rows or of certificates, which have no column `surface`."""
    import polars as pl

    if "surface" in table.columns:
        table = table.filter(pl.col("surface") == budget.surface)
    strength = (
        (pl.col("budget_snr") - budget.snr).abs() < 1e-9
        if budget.snr is not None
        else (pl.col("epsilon") / budget.epsilon - 1).abs() < 1e-9
    )
    return table.filter(
        pl.col("granularity") == budget.granularity,
        (pl.col("sparsity") / budget.sparsity - 1).abs() < 1e-9,
        strength,
    )


def budget_words(budget: AuditBudget) -> str:
    """A budget in words, as part of a sentence."""
    units = {"element": "samples" if budget.surface == "waveform" else "feature values"}
    what = units.get(budget.granularity, f"{budget.granularity}s")
    ratio = budget.snr
    strength = f"epsilon {budget.epsilon:g}" if ratio is None else f"at least {ratio:g} dB"
    return f"at {100 * budget.sparsity:g} % of the {what}, {strength}"


def _joined(*reasons: str) -> str:
    return "; ".join(reason for reason in reasons if reason)
