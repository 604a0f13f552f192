"""The result of `sigma-ser attack` as a table."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

import typer

from .terminal import result_console

SHOWN = ("attack", "explainer", "mask_source", "scope", "sparsity", "epsilon", "budget_snr")
"""The columns of the table that name a cell."""


def print_table(cells: Sequence[dict[str, Any]]) -> None:
    """A table on a terminal, tab-separated lines elsewhere."""
    from rich import box
    from rich.table import Table

    shown = _shown(cells)
    titles = (*(name.replace("_", " ") for name in shown), "success", "95 %", "passes", "s")
    if not sys.stdout.isatty():
        for line in (titles, *(_line(cell, shown) for cell in cells)):
            typer.echo("\t".join(line))
        return
    table = Table(*titles, box=box.SIMPLE)
    for cell in cells:
        table.add_row(*_line(cell, shown))
    result_console().print(table)


def _shown(cells: Sequence[dict[str, Any]]) -> list[str]:
    """The columns of the table: epsilon, or the signal-to-noise ratio that stands for it."""
    by_ratio = any(cell["budget_snr"] is not None for cell in cells)
    return [name for name in SHOWN if name != ("epsilon" if by_ratio else "budget_snr")]


def _line(cell: dict[str, Any], shown: Sequence[str]) -> list[str]:
    start = ["" if cell[name] is None else f"{cell[name]}" for name in shown]
    if "refused" in cell:
        return [*start, "refused", cell["refused"], "", ""]
    return [
        *start,
        f"{100 * cell['asr']:.0f} % of {cell['utterances']}",
        f"{100 * cell['asr_low']:.0f} to {100 * cell['asr_high']:.0f} %",
        f"{cell['forwards'] + cell['backwards']:.0f}",
        f"{cell['seconds']:.3f}",
    ]
