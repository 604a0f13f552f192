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
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the path and the table as one JSON object.")
    ] = False,
) -> None:
    """Compare the attack success rates of several runs."""
    import json

    from sigma_ser.report.inputs import load_inputs
    from sigma_ser.report.run_figures import plain
    from sigma_ser.report.side_by_side import side_by_side, write_comparison

    known = [(str(run), load_inputs(run)) for run in runs]
    page = write_comparison(out, known)
    if as_json:
        lines = side_by_side(known).to_dicts()
        names = [str(run) for run in runs]
        typer.echo(json.dumps(plain({"page": str(page), "runs": names, "cells": lines})))
    else:
        typer.echo(page)
