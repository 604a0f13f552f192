"""All rows of a run in one file, written anew only where a part of it has changed."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from sigma_ser.core.errors import RunError
from sigma_ser.core.files import content_key, whole_file, write_json
from sigma_ser.core.rows import schema
from sigma_ser.runs.files import read_part

from .artifacts import RunPaths
from .scheduler import read_failures
from .steps import AttackStep, Plan, ReplayStep
from .transfer import replay_schema

_STAMP, _ROWS, _REPLAYS = "rows.json", "rows.parquet", "replays.parquet"


@dataclass(frozen=True)
class Collected:
    """What is in `rows.parquet`: a key of its contents, and how many fell in each cell.

    `sizes` are those of the files that were written, in bytes: one that was cut is made again.
    """

    key: str
    flipped: Mapping[str, int]
    sizes: Mapping[str, int]


def collect(plan: Plan, paths: RunPaths) -> Collected:
    """Write `rows.parquet`, and `replays.parquet` where perturbations were replayed.

    Rows come in the order of the plan; parts that could not be computed are left out.

    Raises:
        RunError: if there is no row at all, or a part is damaged.
    """
    parts = list(_present(plan.attacks, plan, paths))
    replays = list(_present(plan.replays, plan, paths))
    if not parts:
        reasons = [one["reason"] for one in read_failures(paths.folder)]
        raise RunError(f"not one attack could be computed: {reasons[0]}")
    # A part is written once and never changed, so its name, size and time say what is in it.
    stats = [(path, path.stat()) for _, path in (*parts, *replays)]
    key = content_key(
        [[path.parent.name, path.name, at.st_size, at.st_mtime_ns] for path, at in stats]
    )
    old = _stamp(paths.folder)
    if old is not None and old.key == key:
        return old
    flipped: dict[str, int] = {}
    for step, table in _write(paths.folder / _ROWS, parts, schema()):
        right, fell = table["correct_before"].to_pylist(), table["success"].to_pylist()
        count = sum(a and b for a, b in zip(right, fell, strict=True))
        flipped[step.key] = flipped.get(step.key, 0) + count
    for _ in _write(paths.folder / _REPLAYS, replays, replay_schema()):
        pass
    made = Collected(key, flipped, _sizes(paths.folder))
    write_json(paths.folder / _STAMP, asdict(made))
    return made


def _present(
    steps: tuple[AttackStep, ...] | tuple[ReplayStep, ...], plan: Plan, paths: RunPaths
) -> Iterator[tuple[AttackStep | ReplayStep, Path]]:
    for step in steps:
        for number, _ in plan.parts(step):
            path = (
                paths.rows(step, number)
                if isinstance(step, AttackStep)
                else paths.replay(step, number)
            )
            if path.exists():
                yield step, path


def _stamp(folder: Path) -> Collected | None:
    try:
        told = Collected(**json.loads((folder / _STAMP).read_text("utf-8")))
    except (OSError, ValueError, TypeError):
        return None
    return told if told.sizes == _sizes(folder) else None


def _sizes(folder: Path) -> dict[str, int]:
    paths = (folder / name for name in (_ROWS, _REPLAYS))
    return {path.name: path.stat().st_size for path in paths if path.exists()}


def _write(target: Path, parts: list[tuple[Any, Path]], columns: Any) -> Iterator[tuple[Any, Any]]:
    """Join parts into one file, and yield each as it passes."""
    import pyarrow.parquet as pq

    if not parts:
        target.unlink(missing_ok=True)
        return
    with whole_file(target) as aside, pq.ParquetWriter(aside, columns) as writer:
        for step, path in parts:
            table = read_part(path, columns)
            writer.write_table(table)
            yield step, table
