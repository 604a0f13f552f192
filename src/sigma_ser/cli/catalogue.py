"""`sigma-ser list`: the registered components."""

from __future__ import annotations

import json
from typing import Annotated

import typer


def list_names(
    kind: Annotated[
        str | None,
        typer.Argument(
            help="Kind of component, such as attack, explainer or head. The default is all kinds."
        ),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the result as one JSON object.")
    ] = False,
) -> None:
    """List the registered attacks, explainers, heads, corpora, protocols and encoders."""
    from sigma_ser.core import registry

    kinds = registry.kinds() if kind is None else (kind,)
    found = {name: registry.names(name) for name in kinds}
    if as_json:
        typer.echo(json.dumps(found))
        return
    for name, members in found.items():
        typer.echo(f"{name}:")
        for member in members:
            typer.echo(f"  {member}")
