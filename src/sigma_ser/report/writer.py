"""Write the report of a run: the page, the tables and the figures."""

from __future__ import annotations

from pathlib import Path

from sigma_ser.core.files import whole_file

from .cells import budgets_of, page_cells
from .figures import write_figures
from .inputs import ReportInputs, save_inputs
from .page import render_page
from .tables import write_tables


def write_report(folder: Path, inputs: ReportInputs, *, audio: bool = True) -> Path:
    """Write `tables/`, `figures/` and `report/index.html` into a run's folder.

    `report/inputs.json` is written too, so that `sigma-ser report` can do the same again.

    Each file appears whole or not at all; the page comes last.

    Args:
        folder: the run's folder.
        inputs: the results.
        audio: embed the recordings of the exemplars, so that the page plays them.

    Returns:
        Path of the page, which needs no other file and no network.
    """
    cells = page_cells(inputs.rows)
    budgets = budgets_of(cells)
    write_tables(
        folder / "tables",
        inputs.rows,
        cells,
        budgets,
        victims=inputs.victims,
        leakage=inputs.leakage,
    )
    # Before the figures, whose library weighs as much as the page's tables.
    text = render_page(inputs, audio=audio)
    write_figures(folder / "figures", cells, budgets)
    save_inputs(folder, inputs)
    page = folder / "report" / "index.html"
    with whole_file(page) as aside:
        aside.write_text(text, "utf-8")
    return page
