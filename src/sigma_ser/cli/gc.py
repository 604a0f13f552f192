"""`sigma-ser gc RUN`: removes files that the study of a run does not use."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer


def gc(
    run: Annotated[Path, typer.Argument(help="Folder of a run.")],
    yes: Annotated[
        bool, typer.Option("--yes", "-y", help="Remove the files without confirmation.")
    ] = False,
    as_json: Annotated[
        bool,
        typer.Option(
            "--json",
            help="Print the result as one JSON object. Without --yes, the files are listed and not "
            "removed.",
        ),
    ] = False,
) -> None:
    """Remove the files of a run that its latest study does not use."""
    from sigma_ser.core.errors import RunError
    from sigma_ser.runs.garbage import find_garbage, remove_garbage
    from sigma_ser.runs.layout import RunLayout
    from sigma_ser.runs.lock import run_lock

    # The lock is a file, which must not be created in a folder that is not a run.
    layout = RunLayout(run)
    if not layout.status.is_file():
        raise RunError(
            f"{run} is not a run folder (it has no {layout.status.name}); give the folder that "
            "sigma-ser run wrote"
        )
    with run_lock(run):
        garbage = find_garbage(layout)
        if not as_json:
            for path in garbage.paths:
                typer.echo(path.relative_to(run))
            typer.echo(f"{len(garbage.paths)} items, {garbage.bytes / 1e6:.1f} MB")
        wanted = bool(garbage.paths) and (
            yes or (not as_json and typer.confirm("Remove them?", default=False))
        )
        if wanted:
            remove_garbage(garbage)
    if as_json:
        named = [str(path.relative_to(run)) for path in garbage.paths]
        typer.echo(json.dumps({"paths": named, "bytes": garbage.bytes, "removed": wanted}))
