"""`sigma-ser run STUDY.toml`: a whole study, or what is missing of it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def run(
    study: Annotated[Path, typer.Argument(help="The study, a TOML file.")],
    out: Annotated[
        Path | None, typer.Option(help="Folder of the run; runs/<name> by default.")
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Change one value of the study."),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object and nothing else.")
    ] = False,
) -> None:
    """Run a study; what is there already is not computed again."""
    execute(study, out, settings or [], as_json)


def execute(study: Path, out: Path | None, overrides: list[str], as_json: bool) -> None:
    """Run a study file and print what came of it."""
    import sigma_ser as ss

    from . import results
    from .progress import shown_progress

    with shown_progress() as progress:
        finished = ss.run(study, out=out, overrides=overrides, progress=progress)
    if as_json:
        typer.echo(results.as_json(finished))
    else:
        results.print_tables(finished)
