"""Outcomes of declared criteria, against values computed by hand."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import polars as pl
import pytest
from pydantic import ValidationError
from scipy.stats import norm

from sigma_ser.evaluate.criteria import Criteria, Finding, audit_findings, outcomes_of, overall
from sigma_ser.evaluate.criteria.outcome import Figure, decide, utterances_needed
from sigma_ser.evaluate.criteria.results import largest_gap

VICTIM: dict[str, Any] = {
    "name": "linear", "uar": 0.8, "uar_low": 0.7, "uar_high": 0.9, "test_utterances": 90,
    "class_names": ["angry", "sad"], "confusion": [[40, 5], [10, 35]], "gradient_check": None,
}  # fmt: skip


def rows(
    flips: list[bool], *, sparsity: float = 0.01, speakers: int = 1, attack: str = "pgd"
) -> pl.DataFrame:
    """Rows of correctly classified utterances, of which an attack gets some misclassified."""
    size = len(flips)
    number = np.arange(size)
    return pl.DataFrame(
        {
            "corpus": ["demo"] * size, "protocol": ["p"] * size, "fold": ["0"] * size,
            "encoder": ["e"] * size, "layer": ["-1"] * size, "victim": ["linear"] * size,
            "victim_seed": [0] * size, "attack_seed": [0] * size,
            "utterance": [f"u{n}" for n in number],
            "speaker": [f"s{n % speakers}" for n in number], "label": ["angry"] * size,
            "attack": [attack] * size, "attack_settings": [attack] * size,
            "explainer": pl.Series([None] * size, dtype=pl.String),
            "mask_source": pl.Series([None] * size, dtype=pl.String),
            "scope": pl.Series([None] * size, dtype=pl.Int64),
            "surface": ["features"] * size, "budget_snr": [None] * size,
            "granularity": ["element"] * size, "sparsity": [sparsity] * size,
            "epsilon": [0.5] * size, "correct_before": [True] * size, "success": flips,
            "topk_intersection": np.where(flips, 0.6, 0.9),
        }
    )  # fmt: skip


def waves(flips: list[bool], snr: float, *, corruption: str | None = None) -> pl.DataFrame:
    """Rows on the waveform: of an attack on all samples, or of a natural corruption."""
    size, null = len(flips), pl.lit(None)
    budget = [] if corruption is None else [
        null.cast(pl.String).alias("granularity"), null.cast(pl.Float64).alias("sparsity")
    ]  # fmt: skip
    table = rows(flips, sparsity=1.0, attack=corruption or "pgd").with_columns(
        pl.lit("waveform").alias("surface"), null.cast(pl.Float64).alias("epsilon"),
        pl.lit(snr).alias("budget_snr"), *budget,
    )  # fmt: skip
    # What counts is the file: in memory each of these flips is the other way round.
    return table.with_columns(
        pl.Series("success", [not one for one in flips]),
        pl.Series("round_trip_success", flips),
        pl.Series("round_trip_correct", [True] * size),
        pl.Series("round_trip_prediction", ["sad" if one else "angry" for one in flips]),
        pl.lit("sad").alias("prediction_after"),
    )


def both_surfaces(*tables: pl.DataFrame) -> pl.DataFrame:
    return pl.concat([rows([False] * 100), *tables], how="diagonal_relaxed")


def bounds(certified: list[bool], *, proven: bool = True, mask: str | None = None) -> pl.DataFrame:
    """Certificates of correctly classified utterances at the budget of `rows`."""
    size = len(certified)
    return pl.DataFrame(
        {
            "corpus": ["demo"] * size, "utterance": [f"u{n}" for n in range(size)],
            "granularity": ["element"] * size, "sparsity": [0.01] * size, "epsilon": [0.5] * size,
            "method": ["affine"] * size, "proven": [proven] * size, "correct": [True] * size,
            "certified": certified, "explainer": pl.Series([mask] * size, dtype=pl.String),
        }
    )  # fmt: skip


def success_limit(limit: float) -> Criteria:
    return Criteria.model_validate(
        {"attack_success": [{"sparsity": 0.01, "epsilon": 0.5, "at_most": limit}]}
    )


@pytest.mark.parametrize(
    ("limit", "result"),
    [
        (0.19, "inconclusive"),
        (0.18, "inconclusive"),
        (0.2, "pass"),
        (0.04, "fail"),
        (0.06, "inconclusive"),
    ],
)
def test_the_interval_decides(limit: float, result: str) -> None:
    flips = [True] * 10 + [False] * 90
    (outcome,) = outcomes_of(success_limit(limit), rows(flips), VICTIM)
    # Wilson 1927, by hand.
    z, p, n = norm.ppf(0.975), 0.1, 100
    centre, half = (p + z * z / 2 / n), z * math.sqrt(p * (1 - p) / n + z * z / 4 / n / n)
    low, high = (centre - half) / (1 + z * z / n), (centre + half) / (1 + z * z / n)
    assert (outcome.figure.low, outcome.figure.high) == pytest.approx((low, high))
    assert (low, high) == pytest.approx((0.0552, 0.1744), abs=1e-4)
    expected = "pass" if high <= limit else "fail" if low > limit else "inconclusive"
    assert outcome.result == expected


def test_the_strongest_attack_counts_and_random_changes_do_not() -> None:
    one, other = [True] * 20 + [False] * 80, [False] * 80 + [True] * 20
    table = pl.concat([
        rows(one), rows(other, attack="fgsm"), rows([True] * 100, attack="random"),
        rows([True] * 100, sparsity=0.05),
    ])  # fmt: skip
    (outcome,) = outcomes_of(success_limit(0.5), table, VICTIM)
    assert (outcome.figure.value, outcome.figure.n) == (0.4, 100)
    assert outcome.result == "pass"


def test_a_masked_victim_passes_by_a_proven_bound_only() -> None:
    masked = {**VICTIM, "gradient_check": {"signs": ["zero-gradient"]}}
    criteria, flips = success_limit(0.1), [False] * 100
    assert [one.result for one in outcomes_of(criteria, rows(flips), VICTIM)] == ["pass"]
    (outcome,) = outcomes_of(criteria, rows(flips), masked)
    assert outcome.result == "inconclusive"
    assert "masked" in outcome.reason
    (outcome,) = outcomes_of(criteria, rows(flips), masked, bounds([True] * 100))
    assert (outcome.result, outcome.more) == ("pass", None)
    (outcome,) = outcomes_of(criteria, rows(flips), masked, bounds([True] * 100, proven=False))
    assert outcome.result == "inconclusive"
    # Success is a lower bound, so that a masked victim fails like any other.
    assert outcomes_of(criteria, rows([True] * 100), masked)[0].result == "fail"


def test_a_certified_share_is_measured_on_correctly_classified_utterances() -> None:
    criteria = Criteria.model_validate(
        {"certified": [{"sparsity": 0.01, "epsilon": 0.5, "at_least": 0.6}]}
    )
    table = bounds([True] * 80 + [False] * 20)
    (outcome,) = outcomes_of(criteria, rows([False] * 100), VICTIM, table)
    assert (outcome.figure.value, outcome.figure.n, outcome.result) == (0.8, 100, "pass")
    smoothed = table.with_columns(pl.lit("frame-ablation").alias("method"))
    assert outcomes_of(criteria, rows([False] * 100), VICTIM, smoothed)[0].result == "inconclusive"
    wrong = table.with_columns(pl.lit(False).alias("correct"))
    assert outcomes_of(criteria, rows([False] * 100), VICTIM, wrong)[0].result == "inconclusive"
    inside = bounds([True] * 100, mask="gradient")
    (outcome,) = outcomes_of(criteria, rows([False] * 100), VICTIM, pl.concat([table, inside]))
    assert outcome.figure.value == 0.8
    (outcome,) = outcomes_of(criteria, rows([False] * 100), VICTIM)
    assert outcome.result == "inconclusive"
    assert "no method of certification" in outcome.reason


def test_a_criterion_concerns_the_surface_that_it_names() -> None:
    limits = [
        {"sparsity": 1.0, "epsilon": 0.5, "at_most": 0.2},
        {"surface": "waveform", "sparsity": 1.0, "snr": 30, "at_most": 0.2},
    ]
    criteria = Criteria.model_validate({"utterances": 30, "attack_success": limits})
    features = rows([False] * 100, sparsity=1.0)
    table = both_surfaces(features, waves([True] * 30, 30.0), waves([False] * 30, 40.0))
    outcomes = outcomes_of(criteria, table, VICTIM)
    assert [one.result for one in outcomes] == ["pass", "fail"]
    assert [(one.figure.value, one.figure.n) for one in outcomes] == [(0.0, 100), (1.0, 30)]
    assert "100 % of the samples, at least 30 dB" in outcomes[1].name
    # Masked gradients on one surface say nothing about the other one.
    table = both_surfaces(features, waves([False] * 30, 30.0))
    for masked, wanted in (
        ([], ["pass", "pass"]),
        (["waveform"], ["pass", "inconclusive"]),
        (["features"], ["inconclusive", "pass"]),
    ):
        outcomes = outcomes_of(criteria, table, VICTIM, masked=masked)
        assert [one.result for one in outcomes] == wanted
    # Fewer utterances are attacked on the waveform, and too few cannot pass.
    outcomes = outcomes_of(criteria.model_copy(update={"utterances": 31}), table, VICTIM)
    assert [(one.result, one.more) for one in outcomes] == [("pass", None), ("inconclusive", 1)]


def test_a_corruption_is_decided_by_the_interval_of_its_errors() -> None:
    noise = {"corruption": "white-noise", "snr": 20, "at_most": 0.2}
    table = both_surfaces(
        waves([True] * 10 + [False] * 90, 20.0, corruption="white-noise"),
        waves([True] * 100, 10.0, corruption="white-noise"),
        waves([True] * 100, 20.0, corruption="gain"),
    )
    for limit, result in ((0.2, "pass"), (0.15, "inconclusive"), (0.05, "fail")):
        criteria = Criteria.model_validate({"corrupted": [noise | {"at_most": limit}]})
        (outcome,) = outcomes_of(criteria, table, VICTIM)
        assert (outcome.figure.value, outcome.figure.n, outcome.result) == (0.1, 100, result)
        # Masked gradients matter to attacks only.
        assert outcomes_of(criteria, table, VICTIM, masked=["features", "waveform"]) == [outcome]
    missing = Criteria.model_validate({"corrupted": [noise | {"snr": 25}]})
    (outcome,) = outcomes_of(missing, table, VICTIM)
    assert (outcome.result, outcome.reason) == ("inconclusive", "it was not measured")


def test_the_gap_between_groups_is_that_of_newcombe() -> None:
    # Newcombe 1998, table II, example (a): 56/70 and 48/80, method 10.
    figure = largest_gap([56, 48], [70, 80])
    assert (figure.value, figure.low, figure.high) == pytest.approx((0.2, 0.0524, 0.3339), abs=5e-5)
    assert math.isnan(largest_gap([5], [10]).value)
    # Ten groups with one rate differ by chance alone: the interval must reach 0.
    rng = np.random.default_rng(0)
    hits = rng.binomial(50, 0.7, size=10)
    assert largest_gap(hits.tolist(), [50] * 10).low == 0


def test_groups_that_are_small_are_left_out_and_named() -> None:
    criteria = Criteria.model_validate(
        {
            "group_gap": [
                {
                    "group": "speaker",
                    "measure": "attack_success",
                    "sparsity": 0.01,
                    "epsilon": 0.5,
                    "at_most": 0.3,
                }
            ]
        }
    )
    table = rows([n % 2 == 0 for n in range(60)], speakers=2)
    (outcome,) = outcomes_of(criteria, table, VICTIM)
    assert (outcome.figure.value, outcome.result) == (1.0, "fail")
    (outcome,) = outcomes_of(criteria, rows([False] * 6, speakers=3), VICTIM)
    assert outcome.result == "inconclusive"
    assert "3 of 3 speakers have fewer than 5" in outcome.reason


def test_kept_explanations_are_those_of_successful_attacks() -> None:
    criteria = Criteria.model_validate(
        {"explanation_kept": [{"sparsity": 0.01, "epsilon": 0.5, "at_least": 0.5}]}
    )
    (outcome,) = outcomes_of(criteria, rows([True] * 10 + [False] * 90), VICTIM)
    assert (outcome.figure.value, outcome.figure.n) == (pytest.approx(0.6), 10)
    assert outcome.result == "pass"
    (outcome,) = outcomes_of(criteria, rows([False] * 100), VICTIM)
    assert outcome.result == "inconclusive"


def test_findings_make_passes_inconclusive_and_leave_failures() -> None:
    criteria = Criteria.model_validate(
        {"clean_uar": 0.6, "attack_success": [{"sparsity": 0.01, "epsilon": 0.5, "at_most": 0.1}]}
    )
    table, found = rows([True] * 50 + [False] * 50), [Finding("too-few", "Few.")]
    outcomes = outcomes_of(criteria, table, VICTIM, None, found)
    assert [one.result for one in outcomes] == ["inconclusive", "fail"]
    assert overall(outcomes) == "fail"
    assert (
        overall(outcomes_of(criteria, rows([False] * 100), VICTIM, None, found)) == "inconclusive"
    )
    assert overall(outcomes_of(criteria, rows([False] * 100), VICTIM)) == "pass"


def test_what_has_to_be_known_comes_as_findings() -> None:
    def codes(**changes: Any) -> list[str]:
        victim = {**VICTIM, **changes.pop("victim", {})}
        settings = {"recognised": 60, "wanted": 50, "corpus_classes": ("angry", "sad")} | changes
        return [one.code for one in audit_findings(victim, **settings)]

    assert codes() == []
    assert codes(victim={"uar": 0.6, "uar_low": 0.5}) == ["at-chance"]
    assert codes(recognised=49) == ["too-few"]
    assert codes(contradictions=1) == ["contradiction"]
    assert codes(criteria_changed=True, recognised=49) == ["criteria-changed", "too-few"]
    assert codes(training=3) == ["training-recordings"]
    assert codes(corpus_classes=("angry", "calm")) == ["class-mismatch"]
    assert codes(victim={"gradient_check": {"signs": ["random"]}}) == ["masked-gradients"]


def test_more_utterances_decide_as_promised() -> None:
    low, high = 0.1 - 1.96 * math.sqrt(0.09 / 50), 0.1 + 1.96 * math.sqrt(0.09 / 50)
    more = utterances_needed(Figure(value=0.1, low=low, high=high, n=50), 0.14)
    assert more is not None
    high = 0.1 + 1.96 * math.sqrt(0.09 / (50 + more))
    assert (
        decide(Figure(value=0.1, low=0.0, high=high, n=50 + more), 0.14, at_least=False) == "pass"
    )
    assert high > 0.1395
    assert utterances_needed(Figure(value=0.1, low=0.0, high=0.2, n=50), 0.1) is None


def test_criteria_that_make_no_sense_are_refused() -> None:
    budget = {"sparsity": 0.01, "epsilon": 0.5}
    for wrong, message in (
        ({}, "no criterion"),
        ({"attack_success": [{**budget, "at_most": 1.5}]}, "less than or equal to 1"),
        ({"group_gap": [{"group": "speaker", "measure": "attack_success", "at_most": 0.1}]},
         "requires sparsity"),
        ({"group_gap": [{"group": "speaker", "at_most": 0.1, **budget}]}, "has no sparsity"),
        ({"attack_success": [{"sparsity": 0.1, "snr": 30, "at_most": 0.1}]},
         "features requires epsilon, and has no snr"),
        ({"attack_success": [{"surface": "waveform", **budget, "at_most": 0.1}]},
         "waveform requires snr, and has no epsilon"),
        ({"corrupted": [{"corruption": "white-noise", "at_most": 0.1}]}, "requires snr"),
        ({"corrupted": [{"corruption": "mp3", "snr": 20, "at_most": 0.1}]}, "has no snr"),
        ({"corrupted": [{"corruption": "white-nose", "at_most": 0.1}]}, "did you mean white-noise"),
        ({"clean_uar": 0.5, "robust": 1}, "Extra inputs"),
    ):  # fmt: skip
        with pytest.raises(ValidationError, match=message):
            Criteria.model_validate(wrong)
