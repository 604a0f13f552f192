"""Damaged files of a run: removed, so that the run makes them again, and counted."""

from __future__ import annotations

import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from sigma_ser.core.errors import DamagedError, RunError
from sigma_ser.core.files import remove, write_json
from sigma_ser.encoders.index import shard_path
from sigma_ser.encoders.store import FeatureStore

from .digests import Digests
from .files import read_objects
from .layout import RunLayout


def repair(layout: RunLayout, digests: Digests, fault: DamagedError) -> list[str]:
    """Remove a damaged file, so that the run makes it again.

    One damaged file is a reason to read all: every other file that has changed is removed as well.

    Args:
        layout: of the run folder, which is locked.
        digests: of the same folder.
        fault: names the file.

    Returns:
        The damaged files, relative to the run folder.

    Raises:
        DamagedError: the fault itself, if the file lies elsewhere.
    """
    if not fault.path.is_relative_to(layout.folder):
        raise fault
    damaged = {fault.path, *_damaged_shards(layout, fault.path)}
    damaged.update(path for path in digests.changed() if not layout.is_feature(path))
    for path in damaged:
        remove(layout.made_with(path))
    return note_repairs(layout, digests, damaged)


def note_repairs(layout: RunLayout, digests: Digests, damaged: Iterable[Path]) -> list[str]:
    """Add files to the list of those that were found damaged; returns their names."""
    try:
        digests.check(layout.repairs)
        known = read_repairs(layout)
    except RunError:
        known = []
    names = sorted(path.relative_to(layout.folder).as_posix() for path in damaged)
    new = [{"file": name, "found": time.time()} for name in names]
    write_json(layout.repairs, [*known, *new], digests.seal)
    return names


def read_repairs(layout: RunLayout) -> list[dict[str, Any]]:
    """The files of a run that were found damaged and were made again.

    Returns:
        `file` (relative to the run folder) and `found` (seconds since 1970) of each.

    Raises:
        RunError: if the list is damaged.
    """
    if not layout.repairs.exists():
        return []
    kinds = {"file": str, "found": (int, float)}
    return read_objects(layout.repairs, kinds, "delete it; it holds no results")


def _damaged_shards(layout: RunLayout, path: Path) -> list[Path]:
    """All damaged shards of a feature store, if `path` is one of them."""
    if not layout.is_feature(path) or path.parent.name != "shards":
        return []
    store = FeatureStore(path.parent.parent)
    return [shard_path(store.folder, shard) for shard in store.damaged()]
