"""`sigma-ser demo`: a complete study on the embedded corpus and encoder, without a download."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def demo(
    out: Annotated[Path, typer.Option(help="Run folder.")] = Path("runs/demo"),
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the result as one JSON object.")
    ] = False,
) -> None:
    """Attack two small emotion recognisers on synthetic speech; this takes a few minutes."""
    from sigma_ser.demo import study_path

    from .run import execute

    execute(study_path(), out, [], as_json)
