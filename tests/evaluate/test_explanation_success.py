"""Success of attacks on the explanation, against plain loops over the rows."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from sigma_ser.core.rows import schema
from sigma_ser.evaluate.explanation_success import LEVELS, explanation_success


@pytest.fixture(scope="module")
def rows() -> pl.DataFrame:
    """Rows of three attacks whose cosines and overlaps are spread over [0, 1]."""
    rng = np.random.default_rng(0)
    count = 90
    values = {
        "attack": ["sigma-mu", "random", "pgd"] * 30,
        "utterance": [f"u{number // 3}" for number in range(count)],
        "prediction_before": ["sad"] * count,
        "prediction_after": rng.choice(["sad", "sad", "angry"], count),
        "correct_before": rng.random(count) < 0.9,
        "cosine": rng.uniform(-0.1, 1, count),
        "topk_intersection": rng.uniform(0, 0.3, count),
    }
    return (
        pl.DataFrame(schema().empty_table())
        .clear(count)
        .with_columns(pl.Series(name, list(value)) for name, value in values.items())
    )


def test_rates_are_those_of_a_loop(rows: pl.DataFrame) -> None:
    table = explanation_success(rows)
    assert len(table) == 3
    for line in table.to_dicts():
        here = [
            row for row in rows.to_dicts()
            if row["correct_before"] and row["attack"] == line["attack"]
        ]  # fmt: skip
        kept = [row["prediction_after"] == row["prediction_before"] for row in here]
        moved = [row["cosine"] < 0.2 and row["topk_intersection"] < 0.1 for row in here]
        assert line["utterances"] == len(here)
        assert line["kept"] == pytest.approx(np.mean(kept))
        assert line["explanation_success"] == pytest.approx(
            np.mean([a and b for a, b in zip(kept, moved, strict=True)])
        )
        curve = [line[f"below_{level}"] for level in LEVELS]
        assert curve == sorted(curve)
        assert line["area"] == pytest.approx(np.trapezoid([0, *curve], [0, *LEVELS]), abs=0.03)


def test_a_changed_prediction_never_counts(rows: pl.DataFrame) -> None:
    changed = rows.with_columns(pl.lit("another").alias("prediction_after"))
    table = explanation_success(changed, cosine=1.0, overlap=1.0)
    assert table["explanation_success"].max() == table["area"].max() == 0


def test_a_map_that_stays_never_counts(rows: pl.DataFrame) -> None:
    table = explanation_success(rows.with_columns(pl.lit(1.0).alias("cosine")))
    assert table["explanation_success"].max() == table["area"].max() == 0


def test_rows_without_a_consistency_are_left_out(rows: pl.DataFrame) -> None:
    assert explanation_success(rows.with_columns(pl.lit(float("nan")).alias("cosine"))).is_empty()
