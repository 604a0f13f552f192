"""`sigma-ser leaderboard FOLDER`: a page that ranks the entries of a folder."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def leaderboard(
    folder: Annotated[
        Path, typer.Argument(help="Folder of leaderboard entries, one JSON file each.")
    ],
) -> None:
    """Rank victims by robust accuracy; `sigma-ser report --entries` writes the entries."""
    from sigma_ser.report.leaderboard import write_leaderboard

    typer.echo(write_leaderboard(folder))
