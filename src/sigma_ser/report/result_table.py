"""The table of all results: what stands in each line, and in which words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from . import formats
from .cells import Cell
from .charts import Metric

_WORDS = (("Line", "the name of a line: column cell of tables/cells.csv"), ("Victim", ""),
          ("Attack", ""), ("Map", "the explanation that made the mask"),
          ("Map of", "the victim that was explained"))  # fmt: skip
_BUDGET = (("Scope", "size of the mask in budgets"), ("Sparsity", "share that may change"),
           ("ε", "largest move, in standard deviations"))  # fmt: skip
_BEFORE = (
    ("utterances", "Right before", "utterances that the victim had recognised", "count"),
    ("flipped", "Fell", "of those, the ones it gets wrong now", "count"),
    ("asr", "Success rate", "fell / right before", "rate"),
    ("asr_low", "from", "95 % interval, lower end", "rate"),
    ("asr_high", "to", "95 % interval, upper end", "rate"),
)
_AFTER = (
    ("l0_share", "Elements moved", "share of the valid elements", "share"),
    ("linf", "Largest move, σ", "mean over utterances", "decimal"),
    ("forwards", "Forwards", "passes of the attack, for each utterance", "count"),
    ("backwards", "Backwards", "passes of the attack, for each utterance", "count"),
    ("mask_passes", "Mask's passes", "passes of the explanation", "count"),
    ("seconds_total", "Time", "attack and mask, for each utterance", "duration"),
)


@dataclass(frozen=True)
class Line:
    """A line of the table: `numbers` are `(column, value, text)`."""

    cell: str
    kind: str
    level: str
    names: tuple[str, ...]
    budget: tuple[tuple[Any, str], ...]
    numbers: tuple[tuple[str, str, str], ...]


def headings(metrics: Sequence[Metric]) -> list[tuple[str, str]]:
    """Heading and explanation of each column."""
    numbers = [(title, hint) for _, title, hint, _ in (*_BEFORE, *_metric(metrics), *_AFTER)]
    return [*_WORDS, *_BUDGET, *numbers]


def lines(cells: Sequence[Cell], metrics: Sequence[Metric]) -> list[Line]:
    """The cells as lines."""
    columns = (*_BEFORE, *_metric(metrics), *_AFTER)
    return [
        Line(
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
                (_exact(cell["epsilon"]), _exact(cell["epsilon"], "g") or "–"),
            ),
            numbers=tuple(
                (name, _exact(cell[name]), _text(cell[name], words))
                for name, _, _, words in columns
            ),
        )
        for cell in cells
    ]


def _metric(metrics: Sequence[Metric]) -> tuple[tuple[str, str, str, str], ...]:
    return tuple((m.name, m.name.replace("_", " "), m.title, "correlation") for m in metrics)


def _exact(value: float | int | None, digits: str = ".12g") -> str:
    return "" if value is None else format(value, digits)


def _text(value: float | int | None, words: str) -> str:
    match words:
        case "rate":
            return formats.percent(value, 1)
        case "correlation":
            return formats.decimal(value, 3)
        case _:
            text: str = getattr(formats, words)(value)
            return text
