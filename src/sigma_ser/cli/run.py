"""`sigma-ser run STUDY.toml`: a whole study, or what is missing of it."""

from __future__ import annotations

import contextlib
import json
import sys
from pathlib import Path
from typing import Annotated

import typer


def run(
    study: Annotated[Path | None, typer.Argument(help="The study, a TOML file.")] = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder of the run; runs/<name> by default.")
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Change one value of the study."),
    ] = None,
    dry: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be done and what it would take.")
    ] = False,
    ray_address: Annotated[
        str | None, typer.Option(help="Run on this Ray cluster; `auto` finds the one here.")
    ] = None,
    schema: Annotated[
        bool, typer.Option("--schema", help="Print the JSON schema of a study file.")
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object and nothing else.")
    ] = False,
) -> None:
    """Run a study; what is there already is not computed again."""
    if schema:
        from sigma_ser.study.config import study_schema

        typer.echo(json.dumps(study_schema(), indent=2))
        return
    if study is None:
        raise typer.BadParameter("give a study file", param_hint="STUDY")
    overrides = list(settings or [])
    if ray_address is not None:
        overrides += [f'executor={{name = "ray", address = "{ray_address}"}}']
    if dry:
        preview(study, out, overrides, as_json)
    else:
        execute(study, out, overrides, as_json)


def execute(study: Path, out: Path | None, overrides: list[str], as_json: bool) -> None:
    """Run a study file and print what came of it; exit status 1 if shards had to be given up."""
    import sigma_ser as ss

    from . import results
    from .progress import shown_progress

    # What a library prints meanwhile (Ray tells of dead workers) is no result.
    with shown_progress() as progress, contextlib.redirect_stdout(sys.stderr):
        finished = ss.run(study, out=out, overrides=overrides, progress=progress)
    if as_json:
        typer.echo(results.as_json(finished))
    else:
        results.print_tables(finished)
    if finished.failures:
        given_up = sum(len(one["utterances"]) for one in finished.failures)
        typer.echo(
            f"sigma-ser: {len(finished.failures)} shards with {given_up} utterances were given up "
            f"and are in no table, the first ({finished.failures[0]['step']}) because: "
            f"{finished.failures[0]['reason']}; see {finished.folder / 'failures.json'}",
            err=True,
        )
        raise typer.Exit(1)


def preview(study: Path, out: Path | None, overrides: list[str], as_json: bool) -> None:
    """Print what a run would do; nothing is written."""
    from sigma_ser.study.estimate import preview_study

    told = preview_study(study, out=out, overrides=overrides)
    if as_json:
        typer.echo(json.dumps(told.as_values()))
        return
    typer.echo(f"{told.name} in {told.folder}: {told.cells} cells")
    for stage in told.stages:
        typer.echo(
            f"  {stage.name:<13} {stage.total:>7} steps, {stage.cached:>7} there, "
            f"{stage.passes:>11,.0f} passes, about {_clock(stage.seconds)}"
        )
    typer.echo(
        f"In all about {_clock(told.seconds)} with {told.workers} "
        f"worker{'s' if told.workers > 1 else ''}, {told.bytes / 1e6:,.0f} MB more on disk "
        f"({told.free_bytes / 1e9:,.1f} GB are free)."
    )
    typer.echo("Passes and times are upper ends: an attack stops where it succeeds.")


def _clock(seconds: float) -> str:
    for size, unit in ((86400, "days"), (3600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.1f} s"
