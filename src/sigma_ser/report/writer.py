"""Write the report of a run: the page, the tables and the figures."""

from __future__ import annotations

from pathlib import Path

from .inputs import ReportInputs


def write_report(folder: Path, inputs: ReportInputs, *, audio: bool = True) -> Path:
    """Write `report/index.html`, `tables/` and `figures/` into a run's folder.

    Args:
        folder: the run's folder; it must exist.
        inputs: the results.
        audio: embed the recordings of the exemplars, so that the page plays them.

    Returns:
        Path of the page, which needs no other file and no network.
    """
    raise NotImplementedError
