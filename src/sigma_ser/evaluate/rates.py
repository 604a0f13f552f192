"""Success rates of groups of rows, with intervals that account for repeated utterances."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float, Int

from sigma_ser.statistics.proportion import effective_trials, wilson_interval

if TYPE_CHECKING:
    import polars as pl

# Rows with the same values are trials of the same recording under other seeds.
UTTERANCE: tuple[str, ...] = ("corpus", "utterance")
IN_MEMORY = "success_in_memory"
"""Column of `headline`: the outcome that the round trip replaced."""
# Outcomes in memory, and the columns of the same outcomes after the round trip.
_ROUND_TRIP = {
    "correct_before": "round_trip_correct",
    "prediction_after": "round_trip_prediction",
    "success": "round_trip_success",
}


def success_rates(rows: pl.DataFrame, place: Sequence[str], prefix: str = "") -> pl.DataFrame:
    """Compute the success rate of each group of rows, with its Wilson 95 % interval.

    An utterance counts once for each of its seeds and folds in the rate; the interval uses the
    effective number of independent trials.

    Args:
        rows: rows of correctly classified utterances, with a column `success`.
        place: the columns that define a group.
        prefix: prefix of the columns of the rate and its interval.

    Returns:
        The columns of `place`, `utterances`, `flipped`, `asr`, `asr_low`, `asr_high`.
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


def headline(rows: pl.DataFrame) -> pl.DataFrame:
    """Replace the outcomes in memory by those after the round trip, where there was one.

    On the waveform, `correct_before`, `prediction_after` and `success` become those of the files:
    16-bit recordings that were written, read and encoded as all others. On features the rows stay
    as they are. All rates are computed from these columns.

    Args:
        rows: the columns of `core.rows`.

    Returns:
        The rows, with `success_in_memory` where there are both outcomes of the attack.
    """
    import polars as pl

    both = [
        (memory, file)
        for memory, file in _ROUND_TRIP.items()
        if memory in rows.columns and file in rows.columns
    ]
    kept = [
        pl.col("success").alias(IN_MEMORY)
        for memory, _ in both
        if memory == "success" and IN_MEMORY not in rows.columns
    ]
    return rows.with_columns(*kept, *(pl.coalesce(file, one).alias(one) for one, file in both))


def attacks_only(rows: pl.DataFrame) -> pl.DataFrame:
    """Leave out natural corruptions, which have no budget: their `granularity` is null.

    Args:
        rows: rows or cells with the column `granularity`.
    """
    import polars as pl

    return rows.filter(pl.col("granularity").is_not_null())


def correct_rows(rows: pl.DataFrame, *columns: str) -> pl.DataFrame:
    """Select columns of the rows whose utterance was classified correctly before the attack.

    The outcomes are those of `headline`. A row has about eighty columns; a filter or join on
    all of them would copy a large run each time.

    Args:
        rows: the columns of `core.rows`.
        columns: names of columns; repeated names are selected once.
    """
    import polars as pl

    wanted = list(dict.fromkeys([*columns, "correct_before"]))
    trip = [name for name in _ROUND_TRIP.values() if name in rows.columns and name not in wanted]
    chosen = rows.select(pl.col(name) for name in [*wanted, *trip])
    return headline(chosen).select(wanted).filter("correct_before")


def owners(rows: pl.DataFrame) -> Int[np.ndarray, "N"]:
    """Number the recordings of rows, from 0 in order of first occurrence.

    Args:
        rows: rows with the columns of `UTTERANCE`.

    Returns:
        `(N,)`, equal for rows of the same recording.
    """
    drawn = rows.select(UTTERANCE)
    known = drawn.unique(maintain_order=True).with_row_index("_owner")
    owner = drawn.join(known, on=UTTERANCE, maintain_order="left")["_owner"]
    return owner.to_numpy().astype(np.int64)


def rate_interval(
    rows: pl.DataFrame, counted: pl.DataFrame, place: Sequence[str]
) -> tuple[Float[np.ndarray, "N"], Float[np.ndarray, "N"]]:
    """Compute the Wilson 95 % interval of `flipped / utterances` of each group.

    Args:
        rows: rows of correctly classified utterances, with a column `success`.
        counted: `utterances` and `flipped` of each group.
        place: the columns that define a group.

    Returns:
        Lower and upper ends, one for each line of `counted`; NaN without an utterance.
    """
    import polars as pl

    lines = counted.select(place).with_row_index("_line")
    each = (
        rows.group_by([*place, *(name for name in UTTERANCE if name not in place)])
        .agg(pl.len().alias("_trials"), pl.col("success").sum().alias("_hits"))
        .join(lines, on=list(place), nulls_equal=True)
        .sort("_line", "_trials", "_hits")  # a fixed order of summation gives equal bits
    )
    trials = counted["utterances"].to_numpy()
    effective = trials.astype(float)
    # Lines without a correctly classified utterance are in none of the groups.
    line, group = np.unique(each["_line"].to_numpy(), return_inverse=True)
    hits, tried = (each[name].to_numpy().astype(np.int64) for name in ("_hits", "_trials"))
    effective[line] = effective_trials(hits, tried, group)
    return wilson_interval(counted["flipped"].to_numpy(), trials, effective=effective)
