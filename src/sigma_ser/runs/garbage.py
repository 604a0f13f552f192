"""What a run folder holds that its study does not need: found, and removed on request."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sigma_ser.core.errors import RunError
from sigma_ser.core.files import write_json
from sigma_ser.core.rows import read_rows

from .files import MAKE_ANEW, read_object
from .layout import STEP_FOLDERS, RunLayout, exemplar_key

_AGAIN = "again, which is quick where everything is finished"
# Names of files that are being written; see `core.files.whole_file`.
_PARTIAL = re.compile(r"^\..+\.[0-9a-f]{8}(\.[a-z]+)?$")


@dataclass(frozen=True)
class Garbage:
    """Files and folders that the study of a run folder does not need, and their size."""

    paths: tuple[Path, ...]
    bytes: int


def write_plan(layout: RunLayout, study: str, needs: Mapping[str, Sequence[str]]) -> None:
    """Record what a study needs.

    Args:
        layout: of the run folder.
        study: name of the study.
        needs: names of artefacts, for each of `STEP_FOLDERS` and for `saliency`.
    """
    write_json(layout.plan, {"study": study, "needs": {key: list(needs[key]) for key in needs}})


def remove_partial_files(layout: RunLayout) -> None:
    """Remove half-written files of killed processes; only while the folder is locked."""
    for path in _partial_files(layout.folder):
        path.unlink(missing_ok=True)


def find_garbage(layout: RunLayout) -> Garbage:
    """What the last study that ran in a folder does not need.

    Raises:
        RunError: if no study ran there, or the record of it is damaged: then nothing could be
            distinguished from garbage.
    """
    if not layout.plan.is_file():
        raise RunError(
            f"{layout.folder} is not a run folder of this version (it has no {layout.plan.name}); "
            f"run the study {_AGAIN}"
        )
    needs = read_object(layout.plan, ["needs"], f"run the study {_AGAIN}")["needs"]
    if not isinstance(needs, dict) or not {*STEP_FOLDERS, "saliency"} <= needs.keys():
        raise RunError(
            f"{layout.plan} was written by another version of sigma-ser; run the study {_AGAIN}"
        )
    found = list(_partial_files(layout.folder))
    for name in STEP_FOLDERS:
        entries = _children(layout.folder / name)
        found += [path for path in entries if path.name not in needs[name]]
    found += _unused_maps(layout, needs)
    found += _unused_exemplars(layout, needs)
    # What lies inside a folder that is removed is not listed again.
    once = {path for path in found if not set(path.parents) & set(found)}
    return Garbage(tuple(sorted(once)), sum(_size(path) for path in once))


def remove_garbage(garbage: Garbage) -> None:
    """Remove what was found; only while the folder is locked."""
    for path in garbage.paths:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


def _unused_maps(layout: RunLayout, needs: Mapping[str, Any]) -> Iterator[Path]:
    banks = set()
    for step in _children(layout.explained):
        if step.name not in needs["saliency"]:
            yield step
            continue
        for part in step.glob("part-*.json"):
            banks.add(read_object(part, ["bank"], MAKE_ANEW)["bank"])
    for path in _children(layout.mask_banks):
        # The banks of universal maps are only read when those are computed.
        if path != layout.explained and path.name not in banks:
            yield path


def _unused_exemplars(layout: RunLayout, needs: Mapping[str, Any]) -> Iterator[Path]:
    """Exemplars are named by cell and utterance; those of the cells that stay are listed."""
    names: list[str] = []
    if layout.rows.exists():
        names = read_rows(layout.rows)["utterance"].unique().to_list()
    kept = {exemplar_key(attack, name) for attack in needs["attacks"] for name in names}
    for path in _children(layout.exemplars):
        if path.stem not in kept:
            yield path


def _partial_files(folder: Path) -> Iterator[Path]:
    for place, _, names in os.walk(folder):
        for name in names:
            if _PARTIAL.match(name):
                yield Path(place) / name


def _children(folder: Path) -> list[Path]:
    return sorted(folder.iterdir()) if folder.is_dir() else []


def _size(path: Path) -> int:
    files = path.rglob("*") if path.is_dir() else [path]
    return sum(one.lstat().st_size for one in files if one.is_file())
