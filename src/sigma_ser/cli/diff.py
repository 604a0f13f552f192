"""`sigma-ser diff RUN RUN`: differences between the inputs and results of two runs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer


def diff(
    first: Annotated[Path, typer.Argument(help="Folder of the first finished run.")],
    second: Annotated[Path, typer.Argument(help="Folder of the second finished run.")],
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the result as one JSON object.")
    ] = False,
) -> None:
    """Report the settings, versions, victims and cells that differ between two runs.

    The exit status is 1 if the runs differ.
    """
    from sigma_ser.report.diff import compare_runs

    difference = compare_runs(first, second)
    if as_json:
        typer.echo(json.dumps(difference.as_values()))
    else:
        for line in difference.lines():
            typer.echo(line)
    if difference.any:
        raise typer.Exit(1)
