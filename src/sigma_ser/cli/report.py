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
) -> None:
    """Write the report of a finished run again from its files; no result is recomputed."""
    from sigma_ser.report.inputs import load_inputs
    from sigma_ser.report.leaderboard import write_entries
    from sigma_ser.report.writer import write_report

    typer.echo(write_report(run, audio=audio))
    if entries is not None:
        for path in write_entries(entries, load_inputs(run)):
            typer.echo(path)
