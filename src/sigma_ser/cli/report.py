"""`sigma-ser report RUN`: write page, tables and figures of a finished run again."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def report(
    run: Annotated[Path, typer.Argument(help="Folder of a finished run.")],
    audio: Annotated[
        bool, typer.Option(help="Embed the recordings of the utterances shown.")
    ] = True,
    entries: Annotated[
        Path | None, typer.Option(help="Also write leaderboard entries into this folder.")
    ] = None,
) -> None:
    """Write the report of a run from its rows; nothing is computed again."""
    from sigma_ser.report.inputs import load_inputs
    from sigma_ser.report.leaderboard import write_entries
    from sigma_ser.report.writer import write_report

    inputs = load_inputs(run)
    typer.echo(write_report(run, inputs, audio=audio))
    if entries is not None:
        for path in write_entries(entries, inputs):
            typer.echo(path)
