"""Segments of recordings: times in a table as seconds, and names for segments."""

from __future__ import annotations

import itertools
import math
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, overload

from sigma_ser.core.records import Records
from sigma_ser.core.utterance import Utterance

_CLOCK = re.compile(
    r"(?P<sign>-?)(?:(?P<days>\d+) days?,? \+?)?"
    r"(?P<hours>\d+):(?P<minutes>\d\d):(?P<seconds>\d\d(?:\.\d*)?)"
)


class Place(NamedTuple):
    """A file, or a segment of it in seconds (`None`: the begin or the end of the file)."""

    path: Path
    start: float | None = None
    end: float | None = None

    @property
    def key(self) -> str:
        """A text that differs between places; the path for a whole file."""
        if self.start is None and self.end is None:
            return os.fspath(self.path)
        # No path contains a null byte.
        return f"{os.fspath(self.path)}\0{self.start!r}-{self.end!r}"


class Places(Sequence[Place]):
    """The places of utterances; each is made when it is needed."""

    def __init__(self, utterances: Records[Utterance]) -> None:
        self._columns = [utterances.column(name) for name in Place._fields]

    def __len__(self) -> int:
        return len(self._columns[0])

    @overload
    def __getitem__(self, row: int) -> Place: ...
    @overload
    def __getitem__(self, row: slice) -> Sequence[Place]: ...
    def __getitem__(self, row: int | slice) -> Place | Sequence[Place]:
        if isinstance(row, slice):
            parts = (column[row] for column in self._columns)
            return list(itertools.starmap(Place, zip(*parts, strict=True)))
        return Place(*(column[row] for column in self._columns))


def seconds_of(text: str) -> float | None:
    """The seconds in a cell: a number, or a duration as Python and pandas write it.

    Args:
        text: such as `1.5`, `0:00:01.5` or `0 days 00:00:01.500000`; empty for no value.

    Returns:
        Seconds, or `None` for no value.

    Raises:
        ValueError: if it is neither.

    >>> seconds_of("1.5"), seconds_of("0 days 00:01:00.250000"), seconds_of("")
    (1.5, 60.25, None)
    """
    if not text:
        return None
    clock = _CLOCK.fullmatch(text)
    if clock is None:
        value = float(text)
    else:
        hours = 24 * int(clock["days"] or 0) + int(clock["hours"])
        value = 3600 * hours + 60 * int(clock["minutes"]) + float(clock["seconds"])
        value = -value if clock["sign"] else value
    if not math.isfinite(value):
        raise ValueError(f"{text!r} is not finite")
    return value


def segment_name(start: float | None, end: float | None) -> str:
    """A short text for a segment in an id; empty for a whole file.

    >>> segment_name(0.5, 2.25), segment_name(3.0, None), segment_name(None, None)
    ('0.5-2.25', '3-end', '')
    """
    if start is None and end is None:
        return ""
    last = "end" if end is None else f"{end:.6f}".rstrip("0").rstrip(".")
    return f"{f'{start or 0:.6f}'.rstrip('0').rstrip('.')}-{last}"
