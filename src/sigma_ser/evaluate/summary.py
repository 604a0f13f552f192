"""From rows to cells: success rates with intervals, and means over utterances."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from sigma_ser.core.rows import AUDIO_QUALITY, CELL_COLUMNS, CONSISTENCY_METRICS

from .rates import UTTERANCE, correct_rows, headline, rate_interval

if TYPE_CHECKING:
    import polars as pl

# Columns that are averaged over the utterances classified correctly before the attack.
MEAN_COLUMNS: tuple[str, ...] = (
    *CONSISTENCY_METRICS,
    *(f"{metric}_own" for metric in CONSISTENCY_METRICS),
    *(f"{metric}_floor" for metric in CONSISTENCY_METRICS),
    "mask_mass",
    "budget_elements",
    "l0",
    "l0_share",
    "l2",
    "linf",
    "frames_touched",
    "channels_touched",
    "steps",
    "forwards",
    "backwards",
    "mask_forwards",
    "mask_backwards",
    "seconds",
    "mask_seconds",
    "confidence_before",
    "confidence_after",
    "bound",
    *AUDIO_QUALITY,
)


def summarise(rows: pl.DataFrame, by: Sequence[str] = CELL_COLUMNS) -> pl.DataFrame:
    """Aggregate rows to one line for each cell: success rates, sizes, consistency and cost.

    Args:
        rows: the columns of `core.rows`, one row for each utterance and cell. The outcomes are
            those of `rates.headline`: on the waveform, those after the round trip.
        by: the columns that define a cell; omit `fold` to pool the folds.

    Returns:
        The columns of `by`, in the order in which the cells first occur. Then `rows` (all),
        `utterances` (correctly classified before the attack) and `flipped` (of those,
        misclassified after it). Then the rates, as fractions: `asr = flipped / utterances` with
        its Wilson 95 % interval `asr_low`, `asr_high` (see `evaluate.rates`), all null without any
        utterance; `robust_accuracy`, correct after the attack / all rows; `fool_rate`, prediction
        changed / all rows. Then the mean of each of `MEAN_COLUMNS` over the correctly classified
        utterances (NaNs left out), `linf_max`, and `forwards_total`, `backwards_total`,
        `seconds_total`, which include the explanation of the mask.
    """
    import polars as pl

    rows = headline(rows)
    correct = pl.col("correct_before")
    cells = rows.group_by(list(by), maintain_order=True).agg(
        pl.len().cast(pl.Int64).alias("rows"),
        correct.sum().cast(pl.Int64).alias("utterances"),
        (correct & pl.col("success")).sum().cast(pl.Int64).alias("flipped"),
        (correct & ~pl.col("success")).mean().alias("robust_accuracy"),
        (pl.col("prediction_before") != pl.col("prediction_after")).mean().alias("fool_rate"),
        *(
            pl.col(name).cast(pl.Float64).fill_nan(None).filter(correct).mean()
            for name in MEAN_COLUMNS
        ),
        pl.col("linf").fill_nan(None).filter(correct).max().alias("linf_max"),
    )
    tried = correct_rows(rows, *by, *UTTERANCE, "success")
    low, high = rate_interval(tried, cells, by)
    asr = pl.col("flipped") / pl.when(pl.col("utterances") > 0).then(pl.col("utterances"))
    cells = cells.with_columns(
        asr.alias("asr"),
        pl.Series("asr_low", low).fill_nan(None),
        pl.Series("asr_high", high).fill_nan(None),
        *(
            (pl.col(name) + pl.col(f"mask_{name}").fill_null(0.0)).alias(f"{name}_total")
            for name in ("forwards", "backwards", "seconds")
        ),
    )
    counts = ["rows", "utterances", "flipped"]
    rates = ["asr", "asr_low", "asr_high", "robust_accuracy", "fool_rate"]
    totals = ["linf_max", "forwards_total", "backwards_total", "seconds_total"]
    return cells.select(*by, *counts, *rates, *MEAN_COLUMNS, *totals)
