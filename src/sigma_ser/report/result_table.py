"""The table of all results: its columns, headings and formatted rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sigma_ser.evaluate.notes import CODES

from . import formats
from .cells import Cell
from .charts import Metric

_NAMES = (("Cell", "Id of the row: column `cell` of tables/cells.csv."), ("Victim", ""),
          ("Attack", ""), ("Explainer", "Explanation method that defines the mask."),
          ("Mask source", "Victim whose explanation defines the mask."))  # fmt: skip
_BUDGET = (("Scope", "Mask size as a multiple of k, the number of values that may change."),
           ("Sparsity", "Share of the feature values that may change."),
           ("Bound", "ε, the maximum change of a value, in standard deviations or of full scale; "
            "or the least signal-to-noise ratio."))  # fmt: skip
_BEFORE = (
    (
        "utterances",
        "Correct before",
        "Utterances that the victim classifies correctly before the attack.",
        "count",
    ),
    ("flipped", "Misclassified", "Those of them that are misclassified after the attack.", "count"),
    ("asr", "Success rate", "Misclassified / correct before.", "rate"),
    ("asr_low", "from", "Lower end of the 95 % confidence interval.", "rate"),
    ("asr_high", "to", "Upper end of the 95 % confidence interval.", "rate"),
)
_AFTER = (
    ("l0_share", "Changed values", "Share of the feature values that changed.", "share"),
    ("linf", "Largest change, σ", "Mean over utterances of the largest change.", "decimal"),
    ("forwards", "Forward passes", "Forward passes of the attack per utterance.", "count"),
    ("backwards", "Backward passes", "Backward passes of the attack per utterance.", "count"),
    (
        "mask_passes",
        "Explanation passes",
        "Forward and backward passes of the explanation.",
        "count",
    ),
    ("seconds_total", "Time", "Time of explanation and attack per utterance.", "duration"),
)


@dataclass(frozen=True)
class TableRow:
    """A row of the table: `budget` holds `(sort key, text)`, `numbers` `(column, value, text)`.

    `notes` are the short names of the notes on its figures.
    """

    cell: str
    kind: str
    level: str
    names: tuple[str, ...]
    budget: tuple[tuple[Any, str], ...]
    numbers: tuple[tuple[str, str, str], ...]
    notes: str = ""


def table_headings(metrics: Sequence[Metric]) -> list[tuple[str, str]]:
    """Heading and tooltip of each column."""
    numbers = [(title, hint) for _, title, hint, _ in (*_BEFORE, *_metric(metrics), *_AFTER)]
    return [*_NAMES, *_BUDGET, *numbers]


def table_rows(cells: Sequence[Cell], metrics: Sequence[Metric]) -> list[TableRow]:
    """One row per cell."""
    columns = (*_BEFORE, *_metric(metrics), *_AFTER)
    return [
        TableRow(
            cell=cell["cell"],
            kind=cell["kind"],
            level=f"{100 * (cell['asr'] or 0):.1f}",
            names=(
                cell["panel"],
                cell["attack"] or "–",
                cell["explainer"] or "–",
                cell["mask_source"] or "–",
            ),
            budget=(
                (cell["scope"] or 0, str(cell["scope"] or "–")),
                (_exact(cell["sparsity"]), formats.share(cell["sparsity"])),
                (_exact(_bound(cell)), formats.strength_text(cell)),
            ),
            numbers=tuple(
                (name, _exact(cell[name]), _text(cell[name], style))
                for name, _, _, style in columns
            ),
            notes=", ".join(dict.fromkeys(CODES[note["code"]] for note in cell.get("notes", ()))),
        )
        for cell in cells
    ]


def _bound(cell: Cell) -> float | None:
    """What the column of the bound is sorted by: epsilon, or its mean over the utterances."""
    bound: float | None = cell["epsilon"] if cell["budget_snr"] is None else cell["bound"]
    return bound


def _metric(metrics: Sequence[Metric]) -> tuple[tuple[str, str, str, str], ...]:
    return tuple((m.name, m.name.replace("_", " "), m.title, "correlation") for m in metrics)


def _exact(value: float | int | None, digits: str = ".12g") -> str:
    return "" if value is None else format(value, digits)


def _text(value: float | int | None, style: str) -> str:
    match style:
        case "rate":
            return formats.percent(value, 1)
        case "correlation":
            return formats.decimal(value, 3)
        case _:
            text: str = getattr(formats, style)(value)
            return text
