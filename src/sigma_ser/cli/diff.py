"""`sigma-ser diff RUN RUN`: which inputs and numbers of two runs differ."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer


def diff(
    first: Annotated[Path, typer.Argument(help="Folder of a finished run.")],
    second: Annotated[Path, typer.Argument(help="Folder of another one.")],
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object and nothing else.")
    ] = False,
) -> None:
    """Say which settings, versions, victims and cells of two runs differ; exit status 1 if any."""
    from sigma_ser.study.diff import compare_runs

    told = compare_runs(first, second)
    if as_json:
        typer.echo(json.dumps(told.as_values()))
    else:
        for line in told.lines():
            typer.echo(line)
    if told.any:
        raise typer.Exit(1)
