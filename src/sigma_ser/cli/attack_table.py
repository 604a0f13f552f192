"""How `sigma-ser attack` shows its cells: a table that grows, or a line for each."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator
from typing import Any

import typer

_SHOWN = ("attack", "explainer", "mask_source", "scope", "sparsity", "epsilon")


@contextlib.contextmanager
def shown_cells(silent: bool) -> Iterator[Callable[[dict[str, Any]], None]]:
    """A table that grows on a terminal, a line for each cell elsewhere, nothing beside JSON."""
    from rich import box
    from rich.console import Console
    from rich.live import Live
    from rich.table import Table

    titles = (*(name.replace("_", " ") for name in _SHOWN), "success", "95 %", "passes", "s")
    if silent:
        yield lambda cell: None
        return
    if not sys.stdout.isatty():
        typer.echo("\t".join(titles))
        yield lambda cell: typer.echo("\t".join(_line(cell)))
        return
    table = Table(*titles, box=box.SIMPLE)
    with Live(table, console=Console()) as live:

        def add(cell: dict[str, Any]) -> None:
            table.add_row(*_line(cell))
            live.refresh()

        yield add


def _line(cell: dict[str, Any]) -> list[str]:
    start = ["" if cell[name] is None else f"{cell[name]}" for name in _SHOWN]
    if "refused" in cell:
        return [*start, "refused", cell["refused"], "", ""]
    return [
        *start,
        f"{100 * cell['asr']:.0f} % of {cell['utterances']}",
        f"{100 * cell['asr_low']:.0f} to {100 * cell['asr_high']:.0f} %",
        f"{cell['forwards'] + cell['backwards']:.0f}",
        f"{cell['seconds']:.3f}",
    ]
