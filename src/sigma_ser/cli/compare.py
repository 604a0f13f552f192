"""`sigma-ser compare RUN RUN ...`: the success rates of several runs in one table."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def compare(
    runs: Annotated[list[Path], typer.Argument(help="Folders of two or more finished runs.")],
    out: Annotated[Path, typer.Option(help="Folder for the page and the table.")] = Path(
        "comparison"
    ),
) -> None:
    """Compare the attack success rates of several runs."""
    from sigma_ser.report.inputs import load_inputs
    from sigma_ser.report.side_by_side import write_comparison

    typer.echo(write_comparison(out, [(str(run), load_inputs(run)) for run in runs]))
