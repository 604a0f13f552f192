"""`sigma-ser leaderboard FOLDER`: a page that ranks the entries of a folder."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def leaderboard(
    folder: Annotated[
        Path, typer.Argument(help="Folder of leaderboard entries, one JSON file each.")
    ],
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the path and the boards as one JSON object.")
    ] = False,
) -> None:
    """Rank victims by robust accuracy; `sigma-ser report --entries` writes the entries."""
    import json

    from sigma_ser.report.leaderboard import boards_as_json, read_boards, write_leaderboard

    page = write_leaderboard(folder)
    if as_json:
        typer.echo(json.dumps({"page": str(page), "boards": boards_as_json(read_boards(folder))}))
    else:
        typer.echo(page)
