"""What a run folder holds that its study does not need: found, and removed on request."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sigma_ser.core.errors import RunError
from sigma_ser.core.files import remove, unfinished, write_json
from sigma_ser.core.rows import read_rows

from .digests import Digests
from .files import MAKE_ANEW, read_object
from .layout import STEP_FOLDERS, RunLayout, exemplar_key

_AGAIN = "again, which is quick where everything is finished"


@dataclass(frozen=True)
class Garbage:
    """Files and folders that the study of a run folder does not need, and their size."""

    paths: tuple[Path, ...]
    bytes: int


def write_plan(
    layout: RunLayout, digests: Digests, study: str, needs: Mapping[str, Sequence[str]]
) -> None:
    """Record what a study needs.

    Args:
        layout: of the run folder.
        digests: of the same folder.
        study: name of the study.
        needs: names of artefacts, for each of `STEP_FOLDERS` and for `saliency`.
    """
    values = {"study": study, "needs": {key: list(needs[key]) for key in needs}}
    write_json(layout.plan, values, digests.seal)


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
    digests = Digests(layout)
    digests.check(layout.plan)
    needs = read_object(layout.plan, {"needs": dict}, f"run the study {_AGAIN}")["needs"]
    lists = [needs.get(name) for name in (*STEP_FOLDERS, "saliency")]
    if not all(isinstance(one, list) for one in lists):
        raise RunError(
            f"{layout.plan} was written by another version of sigma-ser; run the study {_AGAIN}"
        )
    found = list(unfinished(layout.folder))
    for name in STEP_FOLDERS:
        entries = _children(layout.folder / name)
        found += [path for path in entries if path.name not in needs[name]]
    found += _unused_maps(layout, digests, needs)
    digests.check(layout.rows)
    found += _unused_exemplars(layout, needs)
    # What lies inside a folder that is removed is not listed again.
    once = {path for path in found if not set(path.parents) & set(found)}
    return Garbage(tuple(sorted(once)), sum(_size(path) for path in once))


def remove_garbage(garbage: Garbage) -> None:
    """Remove what was found; only while the folder is locked."""
    for path in garbage.paths:
        remove(path)


def _unused_maps(layout: RunLayout, digests: Digests, needs: Mapping[str, Any]) -> Iterator[Path]:
    banks = set()
    for step in _children(layout.explained):
        if step.name not in needs["saliency"]:
            yield step
            continue
        for part in step.glob("part-*.json"):
            digests.check(part)
            banks.add(read_object(part, {"bank": str}, MAKE_ANEW)["bank"])
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


def _children(folder: Path) -> list[Path]:
    return sorted(folder.iterdir()) if folder.is_dir() else []


def _size(path: Path) -> int:
    files = path.rglob("*") if path.is_dir() else [path]
    return sum(one.lstat().st_size for one in files if one.is_file())
