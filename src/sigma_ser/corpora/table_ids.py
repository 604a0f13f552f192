"""Ids of the rows of a table: from a column, or from the paths and segments."""

from __future__ import annotations

import itertools
import os
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

from .finding import safe_id, unique_ids


def ids_of(
    own: Sequence[str], paths: Sequence[str], parts: Sequence[str], folder: Path
) -> Iterable[str]:
    """The id of each row: its own id, otherwise one that is made from its path and segment.

    Args:
        own: the ids in the table, empty where a row has none; of length 0 without such a column.
        paths: absolute and normalised.
        parts: names of the segments, empty for whole files.
        folder: to which ids from paths are relative.
    """
    if own and all(own) and not any(parts):
        return map(safe_id, own)
    distinct = list(dict.fromkeys(paths))
    shown = dict(zip(distinct, _below(folder, distinct), strict=True))
    places = list(dict.fromkeys(zip(paths, parts, strict=True)))
    made = unique_ids(_with_segment(shown[path], part) for path, part in places)
    by_place = dict(zip(places, made, strict=True))
    segments = Counter(name for name, _ in set(zip(own, parts, strict=False)))
    return [
        safe_id(f"{name}_{part}" if part and segments[name] > 1 else name)
        if name
        else by_place[path, part]
        for name, path, part in zip(own or itertools.repeat(""), paths, parts, strict=False)
    ]


def unfit_for_ids(column: Iterable[str], paths: Sequence[str], parts: Sequence[str]) -> str:
    """Why the values of a column do not identify recordings; empty if they do."""
    places: dict[str, tuple[str, str]] = {}
    for name, path, part in zip(column, paths, parts, strict=True):
        if any(char.isspace() for char in name):
            return f"it holds texts, such as {name!r}"
        if name and places.setdefault(name, (path, part)) != (path, part):
            return f"different recordings share a value, such as {name!r}"
    return ""


def _with_segment(path: str, part: str) -> str:
    """A path whose stem ends with the segment."""
    stem, suffix = os.path.splitext(path)
    return f"{stem}_{part}{suffix}" if part else path


def _below(folder: Path, paths: list[str]) -> list[str]:
    """The paths relative to `folder`, or to their common folder, with slashes."""
    base = os.path.join(folder, "")
    if not all(path.startswith(base) for path in paths):
        base = os.path.join(os.path.commonpath([os.path.dirname(path) for path in paths]), "")
    return [Path(path[len(base) :]).as_posix() for path in paths]
