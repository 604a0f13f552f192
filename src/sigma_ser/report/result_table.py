"""The table of all results: its columns, headings and formatted rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sigma_ser.evaluate.notes import CODES

from . import formats
from .cells import Cell
from .charts import Metric

_NAMES = (("Cell", "Id of the row: column `cell` of tables/cells.csv."),
          ("Method", "Attack, and the explanation and scope of its mask."),
          ("Victim", "The attacked model."))  # fmt: skip
_RATE = (
    ("asr", "Success rate", "Misclassified / correct before.", "rate"),
    ("asr_low", "from", "Lower end of the 95 % confidence interval.", "rate"),
    ("asr_high", "to", "Upper end of the 95 % confidence interval.", "rate"),
)
_BUDGET = (("Sparsity", "Share of the feature values that may change."),
           ("Bound", "ε, the maximum change of a value, in standard deviations or of full scale; "
            "or the least signal-to-noise ratio."))  # fmt: skip
_COUNTS = (
    (
        "utterances",
        "Correct before",
        "Utterances that the victim classifies correctly before the attack.",
        "count",
    ),
    ("flipped", "Misclassified", "Those of them that are misclassified after the attack.", "count"),
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
    """A row of the table: `budget` holds `(sort key, text)`, numbers are `(column, value, text)`.

    `rate` stands before the budget, and `numbers` after it. `notes` are the short names of
    the notes on its figures.
    """

    cell: str
    kind: str
    level: str
    method: str
    panel: str
    rate: tuple[tuple[str, str, str], ...]
    budget: tuple[tuple[Any, str], ...]
    numbers: tuple[tuple[str, str, str], ...]
    notes: str = ""


def table_headings(metrics: Sequence[Metric]) -> list[tuple[str, str]]:
    """Heading and tooltip of each column."""
    rate = [(title, hint) for _, title, hint, _ in _RATE]
    numbers = [(title, hint) for _, title, hint, _ in (*_COUNTS, *_metric(metrics), *_AFTER)]
    return [*_NAMES, *rate, *_BUDGET, *numbers]


def table_rows(cells: Sequence[Cell], metrics: Sequence[Metric]) -> list[TableRow]:
    """One row per cell."""
    return [
        TableRow(
            cell=cell["cell"],
            kind=cell["kind"],
            level=f"{100 * (cell['asr'] or 0):.1f}",
            method=cell["method"],
            panel=cell["panel"],
            rate=_numbers(cell, _RATE),
            budget=(
                (_exact(cell["sparsity"]), formats.share(cell["sparsity"])),
                (_exact(_bound(cell)), formats.strength_text(cell)),
            ),
            numbers=_numbers(cell, (*_COUNTS, *_metric(metrics), *_AFTER)),
            notes=", ".join(dict.fromkeys(CODES[note["code"]] for note in cell.get("notes", ()))),
        )
        for cell in cells
    ]


def _numbers(
    cell: Cell, columns: Sequence[tuple[str, str, str, str]]
) -> tuple[tuple[str, str, str], ...]:
    return tuple(
        (name, _exact(cell[name]), _text(cell[name], style)) for name, _, _, style in columns
    )


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
