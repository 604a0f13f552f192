"""Methods as lines of charts: which ones are shown, in which order, and under which name."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

from .cells import Cell

K = TypeVar("K")

# Maximum number of lines per kind in one chart: more lines cannot be distinguished.
_LINES = {"native": 3, "scope": 3, "mask": 2, "control": 1, "corruption": 4}
_LABEL_LETTERS = 30


def by_strength(cells: Iterable[Cell]) -> list[tuple[str, list[Cell]]]:
    """Methods with their rated cells, in descending order of the mean success rate of a panel."""

    def mean(line: tuple[str, list[Cell]]) -> float:
        # A method that runs at fewer budgets on one panel counts for this panel once.
        panels: list[list[float]] = [
            [c["asr"] for c in some] for _, some in grouped(line[1], lambda c: c["panel"])
        ]
        return -sum(sum(rates) / len(rates) for rates in panels) / len(panels)

    return sorted(grouped(cells, lambda cell: str(cell["method"])), key=mean)


def leading_methods(cells: Iterable[Cell]) -> list[str]:
    """The strongest methods of each kind, on average over all cells, the strongest first."""
    rated = [cell for cell in cells if cell["asr"] is not None]
    remaining = dict(_LINES)
    chosen = []
    for method, line in by_strength(rated):
        kind = line[0]["kind"]
        if remaining[kind] > 0:
            remaining[kind] -= 1
            chosen.append(method)
    return chosen


def lines_of(cells: Iterable[Cell], methods: Sequence[str]) -> list[list[Cell]]:
    """The rated cells of some methods, in their order; methods without a cell are left out."""
    lines: dict[str, list[Cell]] = {method: [] for method in methods}
    for cell in cells:
        if cell["asr"] is not None and cell["method"] in lines:
            lines[cell["method"]].append(cell)
    return [line for line in lines.values() if line]


def grouped(cells: Iterable[Cell], key: Callable[[Cell], K]) -> list[tuple[K, list[Cell]]]:
    """Cells grouped by a key, in order of first occurrence."""
    groups: dict[K, list[Cell]] = {}
    for cell in cells:
        groups.setdefault(key(cell), []).append(cell)
    return list(groups.items())


def line_name(cell: Cell) -> str:
    """The name of the method, or only of its mask if the name is too long."""
    if len(cell["method"]) > _LABEL_LETTERS and cell["explainer"] is not None:
        return short_name(f"… in {cell['explainer']} ×{cell['scope'] or 1}")
    return short_name(cell["method"])


def short_name(name: str) -> str:
    """A name that fits beside a chart."""
    return name if len(name) <= _LABEL_LETTERS else name[: _LABEL_LETTERS - 1] + "…"
