"""`sigma-ser run STUDY.toml`: a whole study, or what is missing of it."""

from __future__ import annotations

import contextlib
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from sigma_ser.study.run import Study


def run(
    study: Annotated[Path | None, typer.Argument(help="Study file (TOML).")] = None,
    out: Annotated[
        Path | None, typer.Option(help="Run folder. The default is runs/<name of the study>.")
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set", metavar="KEY=VALUE", help="Override one value of the study. Repeatable."
        ),
    ] = None,
    dry: Annotated[
        bool,
        typer.Option("--dry-run", help="Show the plan and its estimated cost, then stop."),
    ] = False,
    ray_address: Annotated[
        str | None,
        typer.Option(help="Address of the Ray cluster to use; `auto` finds a running one."),
    ] = None,
    schema: Annotated[
        bool, typer.Option("--schema", help="Print the JSON schema of study files.")
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the result as one JSON object.")
    ] = False,
) -> None:
    """Run a study. Results that already exist are reused."""
    if schema:
        from sigma_ser.study.loading import study_schema

        typer.echo(json.dumps(study_schema(), indent=2))
        return
    if study is None:
        from sigma_ser.core.errors import ConfigError

        raise ConfigError(
            "the argument 'study' is missing; give a study file (TOML), or use --schema"
        )
    overrides = list(settings or [])
    if ray_address is not None:
        overrides += [f'executor={{name = "ray", address = "{ray_address}"}}']
    if dry:
        print_estimate(study, out, overrides, as_json)
    elif not submitted(study, out, overrides, as_json):
        finished = execute(study, out, overrides, as_json)
        if not as_json:
            from .terminal import command_name

            typer.echo("\nWhat next")
            typer.echo(f"  open {finished.report} in a browser")
            typer.echo(f"  {command_name()} table {finished.folder} --format tex   # for a paper")


def submitted(study: Path, out: Path | None, overrides: list[str], as_json: bool) -> bool:
    """Submit a study whose executor is `slurm` and print its jobs; False for other executors."""
    from sigma_ser.study.loading import load_study

    loaded = load_study(study, overrides)
    if loaded.config.executor.name != "slurm":
        return False
    from .study_jobs import submit

    submission = submit(loaded, out)
    folder, jobs = submission.folder, submission.jobs
    if as_json:
        values = {"folder": str(folder), "cluster": jobs.cluster, "jobs": jobs.ids}
        typer.echo(json.dumps(values))
        return True
    many = "1 worker" if len(jobs.workers) == 1 else f"{len(jobs.workers)} workers"
    where = "SLURM" if jobs.cluster == "slurm" else f"{jobs.host}, in processes of their own"
    typer.echo(f"Submitted {many} to {where}; jobs: {' '.join(jobs.ids)}")
    typer.echo(f"To see their state: sigma-ser status {folder}")
    typer.echo(f"To stop them: {jobs.stop_command}")
    return True


def execute(study: Path, out: Path | None, overrides: list[str], as_json: bool) -> Study:
    """Run a study file and print its results; exit status 1 if tasks had to be given up."""
    import sigma_ser as ss
    from sigma_ser.core.progress_bars import progress_on_stderr

    from . import results

    # Libraries print messages meanwhile (Ray reports lost workers), which are not results.
    with progress_on_stderr() as progress, contextlib.redirect_stdout(sys.stderr):
        finished = ss.run(study, out=out, overrides=overrides, progress=progress)
    if as_json:
        typer.echo(results.as_json(finished))
    else:
        results.print_tables(finished)
    if finished.failures:
        first = finished.failures[0]
        missing = sum(len(one["utterances"]) for one in finished.failures)
        typer.echo(
            f"sigma-ser: failed tasks: {len(finished.failures)}, with {missing} utterances that "
            f"are missing in the tables; the first ({first['step']}) failed because: "
            f"{first['reason']}; see {finished.layout.failures}",
            err=True,
        )
        raise typer.Exit(1)
    return finished


def print_estimate(study: Path, out: Path | None, overrides: list[str], as_json: bool) -> None:
    """Print what a run would do; nothing is written."""
    from sigma_ser.core.progress_bars import stage_title
    from sigma_ser.study.estimate import estimate_study

    estimate = estimate_study(study, out=out, overrides=overrides)
    if as_json:
        typer.echo(json.dumps(estimate.as_values()))
        return
    cells = f"{estimate.cells} cell{'s' if estimate.cells != 1 else ''}"
    typer.echo(f"{estimate.name} in {estimate.folder}: {cells}")
    for stage in estimate.stages:
        steps, name = "step," if stage.total == 1 else "steps,", stage_title(stage.name)
        typer.echo(
            f"  {name:<15} {stage.total:>7} {steps:<6} {stage.cached:>7} cached, "
            f"{stage.passes:>11,.0f} passes, about {_duration(stage.seconds)}"
        )
    typer.echo(
        f"Total: about {_duration(estimate.seconds)} with {estimate.workers} "
        f"worker{'s' if estimate.workers > 1 else ''}, {estimate.bytes / 1e6:,.0f} MB more on disk "
        f"({estimate.free_bytes / 1e9:,.1f} GB are free)."
    )
    typer.echo("Passes and times are upper bounds: an attack stops where it succeeds.")


def _duration(seconds: float) -> str:
    for size, unit in ((86400, "days"), (3600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.1f} s"
