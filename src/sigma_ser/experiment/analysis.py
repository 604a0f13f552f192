"""Tables of statistics over a run, computed from its rows and from nothing else."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import polars as pl


def write_analysis(folder: Path, rows: pl.DataFrame) -> None:
    """Write the tables."""
