"""`sigma-ser view RUNS`: an index of runs with their headline figures, opened in the browser."""

from __future__ import annotations

import sys
import webbrowser
from pathlib import Path
from typing import Annotated

import typer


def view(
    runs: Annotated[
        Path, typer.Argument(help="Folder that contains runs, or the folder of one run.")
    ] = Path("runs"),
    browse: Annotated[
        bool | None,
        typer.Option(
            "--open/--no-open",
            help="Open the page in the browser. By default, only from a terminal.",
        ),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the index as one JSON object.")
    ] = False,
) -> None:
    """List all runs of a folder on one page, or show the report of one run."""
    import json

    from sigma_ser.report.run_figures import plain
    from sigma_ser.report.run_index import run_line, write_index
    from sigma_ser.runs.layout import RunLayout

    layout = RunLayout(runs)
    if layout.study.is_file() and layout.page.is_file():
        page, lines = layout.page, [run_line(runs, runs)]
    else:
        page, lines = write_index(runs)
    typer.echo(json.dumps(plain({"page": str(page), "runs": lines})) if as_json else page)
    if browse if browse is not None else sys.stdout.isatty() and not as_json:
        webbrowser.open(page.absolute().as_uri())
