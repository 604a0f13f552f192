"""The answer of a run: per victim, what fell, what the explanations did, what it cost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .cells import POOLED_COLUMNS, Cell, strongest

if TYPE_CHECKING:
    import polars as pl


@dataclass(frozen=True)
class Finding:
    """What one panel's cells say at one budget.

    `best` is the strongest attack of all, `native` the strongest that chose its own elements,
    `confined` the strongest that kept to what an explanation marks, `random_region` the same
    attack in random elements, where it ran; controls never count as strongest.
    """

    panel: str
    best: Cell
    native: Cell | None
    confined: Cell | None
    random_region: Cell | None


def findings(cells: Sequence[Cell]) -> list[Finding]:
    """One finding for each panel of the cells of one budget, the weakest victim first."""
    found = []
    for panel in dict.fromkeys(cell["panel"] for cell in cells):
        group = [cell for cell in cells if cell["panel"] == panel]
        real = [cell for cell in group if cell["kind"] != "control"]
        best = strongest(real) or strongest(group)
        if best is None:
            continue
        confined = strongest([cell for cell in real if cell["explainer"] is not None])
        same = [
            cell
            for cell in group
            if confined is not None
            and cell["explainer"] == "random"
            and cell["attack_settings"] == confined["attack_settings"]
            and cell["scope"] == confined["scope"]
        ]
        native = strongest([cell for cell in real if cell["explainer"] is None])
        found.append(Finding(panel, best, native, confined, strongest(same)))
    return sorted(found, key=lambda finding: -finding.best["asr"])


def rows_of(rows: pl.DataFrame, cell: Cell) -> pl.DataFrame:
    """The rows behind a cell."""
    import polars as pl

    same = [pl.col(name).eq_missing(pl.lit(cell[name])) for name in POOLED_COLUMNS]
    return rows.filter(pl.all_horizontal(same))


def by_emotion(rows: pl.DataFrame) -> list[dict[str, Any]]:
    """For each true class: `label`, `utterances` right before, `flipped`, `asr` (or `None`)."""
    import polars as pl

    right = pl.col("correct_before")
    counts = (
        rows.group_by("label")
        .agg(
            right.sum().cast(pl.Int64).alias("utterances"),
            (right & pl.col("success")).sum().cast(pl.Int64).alias("flipped"),
        )
        .sort("label")
    )
    return [
        {**line, "asr": line["flipped"] / line["utterances"] if line["utterances"] else None}
        for line in counts.rows(named=True)
    ]


@dataclass(frozen=True)
class Confusion:
    """Counts of true class (row) against predicted class (column)."""

    labels: tuple[str, ...]
    counts: tuple[tuple[int, ...], ...]

    @property
    def most(self) -> int:
        """The largest count, for the shading."""
        return max((max(row) for row in self.counts), default=0)


def confusion(rows: pl.DataFrame, prediction: str) -> Confusion:
    """Confusion of `prediction_before` or `prediction_after`, over all rows."""
    import polars as pl

    named = [rows["label"], rows["prediction_before"], rows["prediction_after"]]
    labels = pl.concat([column.rename("label") for column in named]).drop_nulls().unique().sort()
    counts = dict.fromkeys(((a, b) for a in labels for b in labels), 0)
    for truth, predicted, number in rows.group_by("label", prediction).len().iter_rows():
        counts[truth, predicted] = number
    return Confusion(tuple(labels), tuple(tuple(counts[a, b] for b in labels) for a in labels))
