"""A table of a paper as a value: sections, lines, entries, and how figures are written."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Style = Literal["rate", "decimal", "fine", "count", "ratio"]


@dataclass(frozen=True)
class Entry:
    """One figure: its value with the ends of its 95 % interval, where it has one."""

    value: float | int | None
    low: float | None = None
    high: float | None = None
    best: bool = False


@dataclass(frozen=True)
class Line:
    """One line: the section it stands in, its names, and one entry for each column.

    A `reference` (a control, or an attack without a mask beside masks) is never marked as best.
    """

    section: str
    names: tuple[str, ...]
    entries: tuple[Entry, ...]
    reference: bool = False


@dataclass(frozen=True)
class PaperTable:
    """One table.

    Args:
        name: of its files.
        caption: in plain text.
        names: headings of the leading columns.
        columns: group and heading of each column of figures; the group may be empty.
        lines: in order; equal sections follow one another.
        styles: how the figures of each column are written.
        section: heading of the sections.
        widths: of the leading columns where their text is broken into lines, as shares of the
            width of the text.
    """

    name: str
    caption: str
    names: tuple[str, ...]
    columns: tuple[tuple[str, str], ...]
    lines: tuple[Line, ...]
    styles: tuple[Style, ...]
    section: str = "Victim"
    widths: tuple[float, ...] = ()
