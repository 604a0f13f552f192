"""Success rates of groups of rows, with intervals that know which rows are one utterance."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float

from sigma_ser.statistics.proportion import effective_trials, wilson_interval

if TYPE_CHECKING:
    import polars as pl

# Rows that share these are the same recording, attacked again under other seeds.
UTTERANCE: tuple[str, ...] = ("corpus", "utterance")


def success_rates(rows: pl.DataFrame, place: Sequence[str], prefix: str = "") -> pl.DataFrame:
    """`utterances`, `flipped`, `asr`, `asr_low`, `asr_high` (Wilson 95 %) of each group of rows.

    An utterance counts once for each of its seeds and folds, and in the interval as much as these
    are worth together.

    Args:
        rows: with a column `success`, of utterances that were right before.
        place: the columns that make a group.
        prefix: goes in front of the names of the rate and its ends.
    """
    import polars as pl

    counted = rows.group_by(place, maintain_order=True).agg(
        pl.len().cast(pl.Int64).alias("utterances"),
        pl.col("success").sum().cast(pl.Int64).alias("flipped"),
    )
    low, high = rate_interval(rows, counted, place)
    return counted.with_columns(
        (pl.col("flipped") / pl.col("utterances")).alias(f"{prefix}asr"),
        pl.Series(f"{prefix}asr_low", low),
        pl.Series(f"{prefix}asr_high", high),
    )


def needed(rows: pl.DataFrame, *columns: str) -> pl.DataFrame:
    """Of the rows that were right before the attack, these columns, each once.

    A row has some sixty columns: whoever filters or joins all of them copies a large run again and
    again.
    """
    import polars as pl

    wanted = list(dict.fromkeys([*columns, "correct_before"]))
    return rows.select(pl.col(name) for name in wanted).filter("correct_before")


def rate_interval(
    rows: pl.DataFrame, counted: pl.DataFrame, place: Sequence[str]
) -> tuple[Float[np.ndarray, "N"], Float[np.ndarray, "N"]]:
    """Both ends of the interval of `flipped / utterances` of each line; NaN without an utterance.

    Args:
        rows: with a column `success`, of utterances that were right before.
        counted: `utterances` and `flipped` of each group.
        place: the columns that make a group.
    """
    import polars as pl

    lines = counted.select(place).with_row_index("_line")
    each = (
        rows.group_by([*place, *(name for name in UTTERANCE if name not in place)])
        .agg(pl.len().alias("_trials"), pl.col("success").sum().alias("_hits"))
        .join(lines, on=list(place), nulls_equal=True)
        .sort("_line", "_trials", "_hits")  # sums in one order give one result
    )
    trials = counted["utterances"].to_numpy()
    effective = trials.astype(float)
    # Lines without an utterance that was right are in none of the groups.
    line, group = np.unique(each["_line"].to_numpy(), return_inverse=True)
    hits, tried = (each[name].to_numpy().astype(np.int64) for name in ("_hits", "_trials"))
    effective[line] = effective_trials(hits, tried, group)
    return wilson_interval(counted["flipped"].to_numpy(), trials, effective=effective)
