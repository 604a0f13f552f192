"""`sigma-ser demo`: the whole way on the embedded corpus and encoder, without a download."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def demo(
    out: Annotated[Path, typer.Option(help="Folder of the run.")] = Path("runs/demo"),
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object and nothing else.")
    ] = False,
) -> None:
    """Attack two small recognisers of synthetic emotional speech; takes a few minutes."""
    from sigma_ser.demo import study_path

    from .run import execute

    execute(study_path(), out, [], as_json)
