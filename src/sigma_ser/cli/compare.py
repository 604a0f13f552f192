"""`sigma-ser compare RUN RUN ...`: runs side by side."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def compare(
    runs: Annotated[list[Path], typer.Argument(help="Folders of finished runs, two or more.")],
    out: Annotated[Path, typer.Option(help="Folder of page and table.")] = Path("comparison"),
) -> None:
    """Put the success rates of several runs side by side."""
    from sigma_ser.report.inputs import load_inputs
    from sigma_ser.report.side_by_side import write_comparison

    typer.echo(write_comparison(out, [(str(run), load_inputs(run)) for run in runs]))
