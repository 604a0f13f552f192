"""What a run's folder holds that its study does not need: found, and removed when asked."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from sigma_ser.core.errors import RunError
from sigma_ser.core.files import content_key, write_json
from sigma_ser.core.rows import read_rows

from sigma_ser.study.artifacts import RunPaths
from .files import MAKE_ANEW, read_object
from sigma_ser.study.steps import Plan

_PLAN = "plan.json"
_AGAIN = "again, which takes a moment where it is finished"
# Rooms of a run whose folders and files are named by keys.
_KEYED = ("features", "victims", "universal", "floors", "attacks", "replays")
_ASIDE = re.compile(r"^\..+\.[0-9a-f]{8}(\.[a-z]+)?$")


@dataclass(frozen=True)
class Garbage:
    """Files and folders that no study in the folder needs, and what they take."""

    paths: tuple[Path, ...]
    bytes: int


def remember_plan(plan: Plan, paths: RunPaths) -> None:
    """Write the keys that a study needs, beside those of other studies in the same folder."""
    victims = [step.key for step in plan.victims]
    needed = {
        "features": sorted({step.setting.features for step in plan.victims}),
        "victims": victims,
        "universal": [step.key for step in plan.universals],
        "saliency": [step.key for step in plan.saliencies],
        "floors": [step.key for step in plan.floors],
        "attacks": [step.key for step in plan.attacks],
        "replays": [step.key for step in plan.replays],
    }
    write_json(paths.folder / _PLAN, {"study": plan.study.name, "needs": needed})


def remove_asides(folder: Path) -> None:
    """Remove what killed processes left half-written; only while the folder is locked."""
    for path in _asides(folder):
        path.unlink(missing_ok=True)


def find_garbage(folder: Path) -> Garbage:
    """What the last study that was run in a folder does not need.

    Raises:
        RunError: if no study was run there, or what is known of it is damaged: then nothing could
            be told from garbage.
    """
    if not (folder / _PLAN).is_file():
        raise RunError(
            f"{folder} is not the folder of a run of this version (it has no {_PLAN}); run the "
            f"study {_AGAIN}"
        )
    needs = read_object(folder / _PLAN, ["needs"], f"run the study {_AGAIN}")["needs"]
    if not isinstance(needs, dict) or not {*_KEYED, "saliency"} <= needs.keys():
        raise RunError(f"{folder / _PLAN} is of another version; run the study {_AGAIN}")
    found = list(_asides(folder))
    for room in _KEYED:
        found += [path for path in _children(folder / room) if path.name not in needs[room]]
    found += _unused_maps(folder, needs)
    found += _unused_exemplars(folder, needs)
    # Of what lies inside another thing that goes, nothing more is said.
    once = {path for path in found if not set(path.parents) & set(found)}
    return Garbage(tuple(sorted(once)), sum(_size(path) for path in once))


def remove_garbage(garbage: Garbage) -> None:
    """Remove what was found; only while the folder is locked."""
    for path in garbage.paths:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


def _unused_maps(folder: Path, needs: dict[str, list[str]]) -> Iterator[Path]:
    done = folder / "saliency" / "done"
    banks = set()
    for step in _children(done):
        if step.name not in needs["saliency"]:
            yield step
            continue
        for part in step.glob("part-*.json"):
            banks.add(read_object(part, ["bank"], MAKE_ANEW)["bank"])
    for path in _children(folder / "saliency"):
        # The banks of universal maps are made again in a moment, if ever.
        if path != done and path.name not in banks:
            yield path


def _unused_exemplars(folder: Path, needs: dict[str, list[str]]) -> Iterator[Path]:
    """Exemplars are named by cell and utterance, so those of the cells that stay are counted up."""
    rows = folder / "rows.parquet"
    names: list[str] = []
    if rows.exists():
        names = read_rows(rows)["utterance"].unique().to_list()
    kept = {content_key([key, name]) for key in needs["attacks"] for name in names}
    for path in _children(folder / "exemplars"):
        if path.stem not in kept:
            yield path


def _asides(folder: Path) -> Iterator[Path]:
    for place, _, names in os.walk(folder):
        for name in names:
            if _ASIDE.match(name):
                yield Path(place) / name


def _children(folder: Path) -> list[Path]:
    return sorted(folder.iterdir()) if folder.is_dir() else []


def _size(path: Path) -> int:
    files = path.rglob("*") if path.is_dir() else [path]
    return sum(one.lstat().st_size for one in files if one.is_file())
