"""`sigma-ser status RUN`: where a run stands, from another terminal."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Annotated, Any

import typer


def status(
    run: Annotated[Path, typer.Argument(help="Folder of a run.")],
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object and nothing else.")
    ] = False,
) -> None:
    """Show how far a run is; it may be running, finished, failed or stopped."""
    from sigma_ser.runs.status import read_status
    from sigma_ser.study.scheduler import read_failures

    told = read_status(run)
    told["failures"] = len(read_failures(run)) if told["state"] == "finished" else 0
    if as_json:
        typer.echo(json.dumps(told))
        return
    ago = time.time() - told["updated"]
    where = f"process {told['process']} on {told['host']}"
    match told["state"]:
        case "running":
            typer.echo(f"running ({where}), last heard of {ago:.0f} s ago")
        case "stopped":
            typer.echo(f"stopped: {where} is gone; run the study again, it goes on where it was")
        case "failed":
            typer.echo(f"failed: {told['reason']}")
        case _:
            took = told["updated"] - told["started"]
            typer.echo(f"finished in {took:.0f} s, {told['failures']} shards given up")
    for stage in told["stages"]:
        typer.echo(_line(stage))


def _line(stage: dict[str, Any]) -> str:
    done, total = stage["done"], stage["total"]
    share = f"{100 * done / total:.0f} %" if total else ""
    left = ""
    fresh = done - stage["cached"]
    if fresh > 0 and done < total:
        seconds = (time.time() - stage["began"]) * (total - done) / fresh
        left = f", about {seconds:.0f} s to go"
    return f"  {stage['name']:<13} {done} of {total} {share}{left}"
