"""`sigma-ser leaderboard FOLDER`: a page from a folder of entries."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def leaderboard(
    folder: Annotated[Path, typer.Argument(help="Folder of entries, one JSON file each.")],
) -> None:
    """Rank victims by what they withstood; see `sigma-ser report --entries`."""
    from sigma_ser.report.leaderboard import write_leaderboard

    typer.echo(write_leaderboard(folder))
