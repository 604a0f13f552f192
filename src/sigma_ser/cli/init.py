"""`sigma-ser init --criteria`: print a commented file to start from."""

from __future__ import annotations

from typing import Annotated

import typer


def init(
    criteria: Annotated[
        bool, typer.Option("--criteria", help="Print a file of criteria for sigma-ser audit.")
    ] = False,
) -> None:
    """Print a commented file to start from; redirect it into a file and adapt it."""
    from sigma_ser.evaluate.criteria.declared import criteria_text

    if not criteria:
        raise typer.BadParameter("give --criteria: sigma-ser init --criteria > criteria.toml")
    typer.echo(criteria_text(), nl=False)
