"""`sigma-ser list` and `sigma-ser show`: the registered components, and one of them in full."""

from __future__ import annotations

import dataclasses
import json
from typing import TYPE_CHECKING, Annotated

import typer

from .arguments import AsJson

if TYPE_CHECKING:
    from sigma_ser.core.descriptions import Description


def list_names(
    kind: Annotated[
        str | None,
        typer.Argument(
            help="Kind of component, such as attack, explainer or head. The default is all kinds."
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """List the registered attacks, explainers, heads, corpora, protocols and encoders."""
    from sigma_ser.core import registry
    from sigma_ser.core.descriptions import summary

    from .terminal import indented

    kinds = registry.kinds() if kind is None else (kind,)
    found = {name: registry.names(name) for name in kinds}
    if as_json:
        typer.echo(json.dumps(found))
        return
    indent = max(len(member) for members in found.values() for member in members) + 4
    for name, members in found.items():
        typer.echo(f"{name}:")
        for member in members:
            typer.echo(indented(summary(name, member), indent, f"  {member}"))
    typer.echo("Settings and source of one of them: sigma-ser show NAME")


def show(
    name: Annotated[str, typer.Argument(help="A name that `sigma-ser list` prints.")],
    kind: Annotated[
        str | None,
        typer.Option(help="Kind of component, where several kinds have a component of this name."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Show a component: what it does, its settings with their defaults, its passes and source."""
    from sigma_ser.core import registry
    from sigma_ser.core.descriptions import describe, kinds_of
    from sigma_ser.core.errors import UnknownNameError

    from .example_passes import failed_attack_passes

    kinds = kinds_of(name) if kind is None else (kind,)
    if not kinds:
        everything = tuple(
            sorted({one for each in registry.kinds() for one in registry.names(each)})
        )
        raise UnknownNameError(
            f"nothing is called {name!r}; {registry.suggestion(name, everything)}"
        )
    found = [(describe(each, name), failed_attack_passes(each, name)) for each in kinds]
    if as_json:
        values = [dataclasses.asdict(one) | {"passes": passes} for one, passes in found]
        typer.echo(json.dumps(values))
        return
    for one, passes in found:
        _print(one, passes)


def _print(one: Description, passes: float | None) -> None:
    from .terminal import indented

    typer.echo(f"{one.name} ({one.kind})")
    typer.echo(indented(one.summary))
    for paragraph in one.text:
        typer.echo("\n" + indented(paragraph))
    typer.echo("\n  Settings:" if one.settings else "\n  It has no settings.")
    indent = max((len(setting.name) for setting in one.settings), default=0) + 6
    for setting in one.settings:
        value = "must be given" if setting.default is None else f"default {setting.default}"
        text = ", ".join(part for part in (setting.type, value) if part)
        text = f"{text}: {setting.text}" if setting.text else text
        typer.echo(indented(text, indent, f"    {setting.name}"))
    typer.echo()
    if passes is not None:
        typer.echo(
            indented(
                f"Passes: {passes:.0f} forward and backward passes per utterance where the attack "
                "fails (with the defaults, measured on a small victim); a success ends it earlier."
            )
        )
    if one.citation:
        typer.echo(indented(f"Source: {one.citation}"))
    if use := _USES.get(one.kind):
        typer.echo(indented("Use: " + use.format(name=one.name)))


_USES = {
    "attack": '[[attacks]] name = "{name}" in a study; ss.attack("{name}", ...) in Python',
    "explainer": 'explainers = ["{name}"] in a study; ss.explain("{name}", ...) in Python',
    "head": '[[victims]] head = "{name}" in a study; sigma-ser train FEATURES --head {name}',
    "corpus": '[corpus] name = "{name}" in a study; sigma-ser corpus check {name} FOLDER',
    "protocol": 'protocol = "{name}" under [corpus] of a study; sigma-ser train --protocol {name}',
    "corruption": '[[corruptions]] name = "{name}" in a study',
    "certificate": '[[certificates]] method = "{name}" in a study; sigma-ser certify VICTIM',
    "executor": 'executor = {{name = "{name}"}} in a study',
    "tracker": '[[trackers]] name = "{name}" in a study',
}
