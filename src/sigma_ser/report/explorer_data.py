"""The rows behind the numbers of the page, packed into the page as JSON."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from markupsafe import Markup

from .cells import POOLED_COLUMNS, Cell
from .formats import share, strength_text

if TYPE_CHECKING:
    import polars as pl

# At about 35 bytes per row, the rows take at most 7 MB.
_MOST_ROWS = 200_000
_ABOUT = ("utterance", "speaker", "label", "text_id")
_COLUMNS = (
    "correct", "success", "before", "after", "spearman", "passes",
    "confidence_before", "confidence_after", "changed", "frames",
)  # fmt: skip


@dataclass(frozen=True)
class EmbeddedRows:
    """Rows as JSON, and the number of utterances if the rows are a sample (otherwise `None`)."""

    json: Markup
    sampled: int | None


def embedded_rows(
    rows: pl.DataFrame,
    cells: Sequence[Cell],
    changes: pl.DataFrame | None = None,
    *,
    most: int = _MOST_ROWS,
) -> EmbeddedRows:
    """Pack the rows of some cells, column by column, with every name stored once.

    Args:
        rows: the rows of the run.
        cells: lines of `page_cells`; rows of other cells are omitted.
        changes: which values were changed, see `changes.kept_changes`.
        most: maximum number of rows. If there are more, utterances are sampled evenly in order of
            their ids; a sampled utterance keeps all its rows.
    """
    import polars as pl

    utterances = rows.select(_ABOUT).unique("utterance").sort("utterance")
    sampled = None
    if len(rows) > most:
        sampled = max(1, len(utterances) * most // len(rows))
        kept = [index * len(utterances) // sampled for index in range(sampled)]
        utterances = utterances[kept]
    classes = pl.concat(
        [rows[name].rename("name") for name in ("label", "prediction_before", "prediction_after")]
    )
    names = classes.drop_nulls().unique().sort().to_list()
    index = {name: place for place, name in enumerate(names)}
    numbers = utterances.select("utterance").with_row_index("_utterance")
    lines = pl.DataFrame(
        [{name: cell[name] for name in ("cell", *POOLED_COLUMNS)} for cell in cells],
        schema={"cell": pl.String, **{name: rows.schema[name] for name in POOLED_COLUMNS}},
    )
    packed = (
        rows.join(numbers, on="utterance")
        .join(lines, on=list(POOLED_COLUMNS), nulls_equal=True)
        .select(
            "cell",
            "_utterance",
            pl.col("correct_before").cast(pl.Int8).alias("correct"),
            pl.col("success").cast(pl.Int8).alias("success"),
            pl.col("prediction_before")
            .replace_strict(index, return_dtype=pl.Int32)
            .alias("before"),
            pl.col("prediction_after").replace_strict(index, return_dtype=pl.Int32).alias("after"),
            pl.col("spearman").fill_nan(None).round(3),
            (pl.col("forwards") + pl.col("backwards")).alias("passes"),
            *(_per_cent(f"confidence_{when}") for when in ("before", "after")),
            pl.col("l0").alias("changed"),
            # On the waveform every sample is a frame of its own.
            pl.when(pl.col("surface") != "waveform").then("frames_touched").alias("frames"),
        )
        .group_by("cell", maintain_order=True)
        .agg(pl.all())
    )
    value: dict[str, Any] = {
        "classes": names,
        "utterances": [list(line) for line in utterances.iter_rows()],
        "methods": {
            cell["cell"]: [
                cell["method"],
                cell["panel"],
                share(cell["sparsity"]),
                strength_text(cell),
            ]
            for cell in cells
        },
        "columns": ["utterance", *_COLUMNS],
        "cells": {line[0]: list(line[1:]) for line in packed.iter_rows()},
    }
    if changes is not None:
        value["changes"] = _places(changes, lines)
    return EmbeddedRows(script_json(value), sampled)


def _per_cent(name: str) -> pl.Expr:
    """A probability in whole per cent, and null for NaN."""
    import polars as pl

    return (pl.col(name) * 100).fill_nan(None).round().cast(pl.Int64)


def _places(changes: pl.DataFrame, lines: pl.DataFrame) -> dict[str, Any]:
    """For each cell the number of channels, and for each utterance its frames and places."""
    joined = changes.join(lines, on=list(POOLED_COLUMNS), nulls_equal=True)
    found: dict[str, Any] = {}
    columns = ("cell", "utterance", "channels", "frames", "places")
    for cell, utterance, channels, frames, places in joined.select(columns).iter_rows():
        one = found.setdefault(cell, {"channels": channels, "of": {}})
        # Of several folds or seeds the page shows the first.
        one["of"].setdefault(utterance, [frames, places])
    return found


def script_json(value: Any) -> Markup:
    """JSON that is safe inside a script element: it contains no `<`, `>` or `&`."""
    text = json.dumps(value, separators=(",", ":"), ensure_ascii=False)
    for letter in "<>&\u2028\u2029":
        text = text.replace(letter, f"\\u{ord(letter):04x}")
    return Markup(text)
