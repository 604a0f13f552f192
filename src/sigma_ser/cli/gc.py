"""`sigma-ser gc RUN`: remove what the study in a folder does not need."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer


def gc(
    run: Annotated[Path, typer.Argument(help="Folder of a run.")],
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Remove without asking.")] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object; asks nothing.")
    ] = False,
) -> None:
    """Remove what the study that was last run in a folder does not need."""
    from sigma_ser.core.errors import RunError
    from sigma_ser.runs.garbage import find_garbage, remove_garbage
    from sigma_ser.runs.lock import run_lock

    # The lock is a file, which has no place in a folder that is none of ours.
    if not (run / "status.json").is_file():
        raise RunError(f"there is no run in {run}; give the folder that sigma-ser run wrote")
    with run_lock(run):
        garbage = find_garbage(run)
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
