"""Comparison of runs: the same method, victim and budget in each."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sigma_ser.core.errors import RunError
from sigma_ser.core.files import whole_file

from .caveats import CAVEATS, caveats
from .cells import page_cells
from .inputs import ReportInputs
from .page import render
from .readable import without_paths

if TYPE_CHECKING:
    import polars as pl

# Columns that identify a cell across runs; runs may differ in all other columns. A panel is a
# victim, with its corpus, protocol or encoder if a run has several.
_SAME = (
    "surface", "panel", "method", "kind", "granularity", "sparsity", "epsilon", "budget_snr",
)  # fmt: skip
_VALUES = ("utterances", "asr", "asr_low", "asr_high", "spearman", "passes_total", "notes")


def side_by_side(runs: Sequence[tuple[str, ReportInputs]]) -> pl.DataFrame:
    """One line per method, victim and budget, with the numbers of each run.

    Args:
        runs: a name and the inputs of each run, two or more.

    Returns:
        The columns of `_SAME`, then numbers prefixed by the run (`1:asr`, `2:asr` ...; null if a
        run has no such cell) and `2:difference` ..., the success rate minus that of the first run.
        `1:notes` ... are the codes of masked gradients and of degenerate measurements, separated
        by spaces.

    Raises:
        RunError: if there are fewer than two runs.
    """
    import polars as pl

    if len(runs) < 2:
        raise RunError("compare needs at least two runs; pass the folders of two or more runs")
    table: pl.DataFrame | None = None
    for number, (_, inputs) in enumerate(runs, start=1):
        # Apart, so that a victim has the same name in runs on one and on both surfaces.
        surfaces = inputs.rows["surface"].unique().sort().to_list()
        cells = pl.concat(page_cells(inputs.rows, surface) for surface in surfaces)
        notes = [
            " ".join(dict.fromkeys(note["code"] for note in caveats(inputs, cell)))
            for cell in cells.iter_rows(named=True)
        ]
        cells = cells.with_columns(pl.Series("notes", notes, pl.String))
        part = cells.select(*_SAME, pl.col(_VALUES).name.prefix(f"{number}:"))
        if table is None:
            table = part
        else:
            table = table.join(part, on=list(_SAME), how="full", coalesce=True, nulls_equal=True)
    assert table is not None
    return table.with_columns(
        (pl.col(f"{number}:asr") - pl.col("1:asr")).alias(f"{number}:difference")
        for number in range(2, len(runs) + 1)
    ).sort(
        ["surface", "panel", "sparsity", "epsilon", "budget_snr", "1:asr"],
        descending=[False, False, False, False, True, True],
    )


def write_comparison(folder: Path, runs: Sequence[tuple[str, ReportInputs]]) -> Path:
    """Write `comparison.csv` and the page `index.html`; returns the path of the page."""
    table = side_by_side(runs)
    with whole_file(folder / "comparison.csv") as aside:
        table.write_csv(aside)
    numbers = range(1, len(runs) + 1)
    lines: list[dict[str, Any]] = [
        {
            **{name: line[name] for name in _SAME},
            "runs": [{value: line[f"{number}:{value}"] for value in _VALUES} for number in numbers],
            "differences": [line[f"{number}:difference"] for number in numbers[1:]],
        }
        for line in table.iter_rows(named=True)
    ]
    page = folder / "index.html"
    with whole_file(page) as aside:
        aside.write_text(
            render(
                "comparison.html",
                {
                    "title": "Comparison of runs",
                    "runs": [
                        (without_paths(name), inputs.title or inputs.name) for name, inputs in runs
                    ],
                    "lines": lines,
                    "note_names": CAVEATS,
                },
            ),
            "utf-8",
        )
    return page
