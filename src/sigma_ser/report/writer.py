"""Write the report of a run folder: the page, the tables, the figures and the statistics."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

from sigma_ser.core.files import whole_file
from sigma_ser.evaluate.tables import statistical_tables
from sigma_ser.runs.layout import RunLayout

from .cells import budgets_of, page_cells
from .figures import write_figures
from .inputs import ReportInputs, load_inputs
from .page import render_page
from .tables import write_tables


def write_report(folder: Path, *, audio: bool | None = None, seconds: float | None = None) -> Path:
    """Write `analysis/`, `tables/`, `figures/` and `report/index.html` of a finished run.

    Each file appears whole or not at all; the page comes last.

    Args:
        folder: the run folder; the report is made from its files and from nothing else.
        audio: embed the sounds of the exemplars, so that the page plays them; `None` follows the
            study, and where it leaves this open, the licence of the corpus.
        seconds: wall time of the run; `None` keeps that of the last report.

    Returns:
        Path of the page, which needs no other file and no network.

    Raises:
        RunError: if it is not the folder of a finished run, or a file is damaged.
    """
    inputs = load_inputs(folder)
    if seconds is not None:
        inputs = replace(inputs, seconds=seconds)
    layout = RunLayout(folder)
    _write_analysis(layout.analysis, inputs)
    cells = page_cells(inputs.rows)
    shown = page_cells(inputs.rows, "features")
    budgets = budgets_of(shown)
    write_tables(
        layout.tables,
        inputs.rows,
        cells,
        budgets,
        victims=inputs.victims,
        leakage=inputs.leakage,
        notes=inputs.notes,
    )
    # Before the figures: matplotlib takes as much memory as the tables of the page.
    text = render_page(inputs, audio=audio)
    write_figures(layout.figures, shown, budgets, inputs.notes)
    with whole_file(layout.page) as aside:
        aside.write_text(text, "utf-8")
    return layout.page


def _write_analysis(folder: Path, inputs: ReportInputs) -> None:
    """Write one CSV file for each statistical table that has a line."""
    if folder.exists():
        shutil.rmtree(folder)
    if inputs.rows.is_empty():
        return
    tables = statistical_tables(inputs.rows, inputs.replays)
    further = {"notes": inputs.notes.table, "alarm": inputs.detections}
    for name, table in {**tables, **further}.items():
        if table is not None and len(table):
            with whole_file(folder / f"{name}.csv") as aside:
                table.write_csv(aside)
