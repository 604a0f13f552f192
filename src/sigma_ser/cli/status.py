"""`sigma-ser status RUN`: the progress of a run, from another terminal."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Annotated, Any

import typer


def status(
    run: Annotated[Path, typer.Argument(help="Folder of a run.")],
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the result as one JSON object.")
    ] = False,
) -> None:
    """Show the state of a run (queued, running, finished, failed or stopped), and its progress."""
    from sigma_ser.runs.layout import RunLayout
    from sigma_ser.runs.repairs import read_repairs
    from sigma_ser.runs.status import read_status
    from sigma_ser.study.scheduler import read_failures

    layout = RunLayout(run)
    state = read_status(layout)
    state["failures"] = len(read_failures(layout)) if state["state"] == "finished" else 0
    state["repaired"] = [one["file"] for one in read_repairs(layout)]
    if as_json:
        typer.echo(json.dumps(state))
        return
    ago = time.time() - state["updated"]
    where = f"process {state['process']} on {state['host']}"
    match state["state"]:
        case "queued":
            typer.echo("queued: no job of the run is at work")
        case "running":
            typer.echo(f"running ({where}), last update {ago:.0f} s ago")
        case "stopped":
            typer.echo(f"stopped: {where} no longer exists; run the study again to continue")
        case "failed":
            typer.echo(f"failed: {state['reason']}")
        case _:
            took = state["updated"] - state["started"]
            typer.echo(f"finished in {took:.0f} s, {state['failures']} shards failed")
    if "jobs" in state:
        typer.echo(_queue(state["jobs"]))
    if state["repaired"]:
        typer.echo(
            f"{len(state['repaired'])} damaged files were made again: "
            f"{', '.join(state['repaired'])}"
        )
    for stage in state["stages"]:
        typer.echo(_line(stage))


def _queue(jobs: dict[str, Any]) -> str:
    counts = [f"{jobs[name]} {name}" for name in ("queued", "running", "ended") if jobs.get(name)]
    if jobs.get("unknown"):
        counts.append(f"{jobs['unknown']} whose state cannot be read on this machine")
    return f"jobs {' '.join(jobs['ids'])} ({jobs['cluster']}): {', '.join(counts)}"


def _line(stage: dict[str, Any]) -> str:
    done, total = stage["done"], stage["total"]
    share = f"{100 * done / total:.0f} %" if total else ""
    left = ""
    fresh = done - stage["cached"]
    if fresh > 0 and done < total:
        seconds = (time.time() - stage["began"]) * (total - done) / fresh
        left = f", about {seconds:.0f} s remaining"
    return f"  {stage['name']:<13} {done} of {total} {share}{left}"
