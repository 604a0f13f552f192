"""`sigma-ser report RUN`: write the page, tables and figures of a finished run again."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def report(
    run: Annotated[Path, typer.Argument(help="Folder of a finished run.")],
    audio: Annotated[
        bool | None,
        typer.Option(
            "--audio/--no-audio",
            help="Embed the sounds of the utterances that the page shows. By default the study "
            "decides (exemplar_sounds), or the licence of the corpus.",
        ),
    ] = None,
    entries: Annotated[
        Path | None,
        typer.Option(help="Also write entries for `sigma-ser leaderboard` to this folder."),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the paths and all figures as one JSON object.")
    ] = False,
) -> None:
    """Write the report of a finished run again from its files; no result is recomputed."""
    import json

    from sigma_ser.report.inputs import load_inputs
    from sigma_ser.report.leaderboard import write_entries
    from sigma_ser.report.run_figures import run_figures
    from sigma_ser.report.writer import write_report

    page = write_report(run, audio=audio)
    inputs = load_inputs(run) if as_json or entries is not None else None
    written = [] if entries is None or inputs is None else write_entries(entries, inputs)
    if as_json and inputs is not None:
        paths = {"page": str(page), "entries": [str(path) for path in written]}
        typer.echo(json.dumps(paths | run_figures(inputs)))
        return
    for path in (page, *written):
        typer.echo(path)
