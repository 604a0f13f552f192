"""Cells against counts by hand, and the edges: no correct utterance, nulls, NaNs."""

from __future__ import annotations

import math
from typing import Any

import polars as pl
import pytest

from sigma_ser.core.rows import CELL_COLUMNS, schema
from sigma_ser.evaluate.summary import MEAN_COLUMNS, summarise

_CELL = {"corpus": "demo", "fold": "0", "victim": "mean-pool", "attack": "pgd", "epsilon": 0.5}


def frame(rows: list[dict[str, Any]]) -> pl.DataFrame:
    """Rows with every column of `core.rows`; what is not given is null."""
    empty = pl.DataFrame(schema().empty_table())
    nothing = dict.fromkeys(empty.columns)
    whole = [{**nothing, "utterance": f"u{n}", **row} for n, row in enumerate(rows)]
    return pl.DataFrame(whole, empty.schema)


def row(**given: Any) -> dict[str, Any]:
    right = {"prediction_before": "angry", "prediction_after": "angry", "label": "angry"}
    return {**_CELL, **right, "correct_before": True, "success": False, **given}


def flipped(**given: Any) -> dict[str, Any]:
    return row(prediction_after="sad", success=True, **given)


def wrong(**given: Any) -> dict[str, Any]:
    """Misclassified before the attack, which an untargeted attack counts as a success."""
    return row(
        prediction_before="sad", prediction_after="sad", correct_before=False, success=True, **given
    )


def test_rates_are_the_shares_that_their_names_define() -> None:
    rows = [flipped(), flipped(), row(), row(), row(), wrong(), wrong(), wrong()]
    cell = summarise(frame(rows)).row(0, named=True)
    assert (cell["rows"], cell["utterances"], cell["flipped"]) == (8, 5, 2)
    assert cell["asr"] == 2 / 5
    assert cell["fool_rate"] == 2 / 8
    assert cell["robust_accuracy"] == 3 / 8
    assert cell["asr_low"] < cell["asr"] < cell["asr_high"]


def test_means_are_over_the_correctly_classified_utterances() -> None:
    rows = [
        flipped(
            spearman=0.2, linf=0.5, forwards=10, backwards=9, mask_forwards=2, mask_backwards=1
        ),
        row(spearman=0.6, linf=0.3, forwards=20, backwards=19, mask_forwards=2, mask_backwards=1),
        row(spearman=math.nan, forwards=0, backwards=0),
        wrong(spearman=-1.0, linf=9.0, forwards=900, backwards=900),
    ]
    cell = summarise(frame(rows)).row(0, named=True)
    assert cell["spearman"] == pytest.approx(0.4)
    assert cell["linf"] == pytest.approx(0.4)
    assert cell["linf_max"] == 0.5
    assert cell["forwards"] == pytest.approx(10)
    assert cell["forwards_total"] == pytest.approx(12)
    assert cell["backwards_total"] == pytest.approx(28 / 3 + 1)
    assert cell["cosine"] is None


def test_cells_differ_in_any_column_nulls_included() -> None:
    rows = [
        row(attack="pgd"),
        row(attack="pgd", explainer="gradient", scope=1),
        row(attack="pgd", explainer="gradient", scope=8),
        row(attack="pgd", explainer="gradient", scope=8, fold="1"),
        row(attack="pgd", explainer="gradient", scope=8, fold="1", utterance="another"),
    ]
    assert summarise(frame(rows))["rows"].to_list() == [1, 1, 1, 2]
    pooled = [name for name in CELL_COLUMNS if name != "fold"]
    assert summarise(frame(rows), pooled)["rows"].to_list() == [1, 1, 3]


def test_a_cell_without_correct_utterances_has_no_rate() -> None:
    cell = summarise(frame([wrong(), wrong()])).row(0, named=True)
    assert cell["utterances"] == 0
    assert cell["asr"] is cell["asr_low"] is cell["asr_high"] is cell["l0"] is None
    assert cell["fool_rate"] == 0.0


def test_no_rows_give_no_cells() -> None:
    cells = summarise(frame([]))
    assert cells.is_empty()
    assert {*CELL_COLUMNS, *MEAN_COLUMNS, "asr", "asr_low", "asr_high"} <= set(cells.columns)
