"""The main findings of a run, one per victim, and the rows behind them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .cells import POOLED_COLUMNS, Cell, strongest

if TYPE_CHECKING:
    import polars as pl


@dataclass(frozen=True)
class Finding:
    """The strongest attacks on the victim of one panel at one budget.

    Attributes:
        panel: name of the victim, see `page_cells`.
        best: the strongest attack; a control only if there is no other.
        native: the strongest attack without a mask.
        masked: the strongest attack inside the mask of an explanation.
        random_mask: the attack of `masked` inside a random mask of the same size, if it was run.
    """

    panel: str
    best: Cell
    native: Cell | None
    masked: Cell | None
    random_mask: Cell | None


def findings(cells: Sequence[Cell]) -> list[Finding]:
    """One finding per panel for cells of one budget, in descending order of success rate."""
    found = []
    for panel in dict.fromkeys(cell["panel"] for cell in cells):
        group = [cell for cell in cells if cell["panel"] == panel]
        attacks = [cell for cell in group if cell["kind"] != "control"]
        best = strongest(attacks) or strongest(group)
        if best is None:
            continue
        masked = strongest([cell for cell in attacks if cell["explainer"] is not None])
        same = [
            cell
            for cell in group
            if masked is not None
            and cell["explainer"] == "random"
            and cell["attack_settings"] == masked["attack_settings"]
            and cell["scope"] == masked["scope"]
        ]
        native = strongest([cell for cell in attacks if cell["explainer"] is None])
        found.append(Finding(panel, best, native, masked, strongest(same)))
    return sorted(found, key=lambda finding: -finding.best["asr"])


def rows_of(rows: pl.DataFrame, cell: Cell) -> pl.DataFrame:
    """The rows that a cell summarises."""
    import polars as pl

    same = [pl.col(name).eq_missing(pl.lit(cell[name])) for name in POOLED_COLUMNS]
    return rows.filter(pl.all_horizontal(same))


def by_emotion(rows: pl.DataFrame) -> list[dict[str, Any]]:
    """Per true class: `label`, correctly classified `utterances`, `flipped` ones, and `asr`.

    `asr` is `None` for a class without a correctly classified utterance.
    """
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
    """A confusion matrix of counts: true classes in rows, predicted classes in columns."""

    labels: tuple[str, ...]
    counts: tuple[tuple[int, ...], ...]

    @property
    def most(self) -> int:
        """The largest count, which scales the shading."""
        return max((max(row) for row in self.counts), default=0)


def confusion(rows: pl.DataFrame, prediction: str) -> Confusion:
    """The confusion matrix of `prediction_before` or `prediction_after` over all rows."""
    import polars as pl

    named = [rows["label"], rows["prediction_before"], rows["prediction_after"]]
    labels = pl.concat([column.rename("label") for column in named]).drop_nulls().unique().sort()
    counts = dict.fromkeys(((a, b) for a in labels for b in labels), 0)
    for truth, predicted, number in rows.group_by("label", prediction).len().iter_rows():
        counts[truth, predicted] = number
    return Confusion(tuple(labels), tuple(tuple(counts[a, b] for b in labels) for a in labels))
