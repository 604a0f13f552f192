"""The line of each key of a TOML file, which `tomllib` does not report."""

from __future__ import annotations

import re


def toml_lines(text: str) -> dict[tuple[str, ...], int]:
    """The line of each table and key, by its path; entries of arrays of tables are numbered.

    >>> toml_lines("a = 1\\n[[b]]\\nc.d = 2")
    {('a',): 1, ('b',): 2, ('b', '0'): 2, ('b', '0', 'c'): 3, ('b', '0', 'c', 'd'): 3}
    """
    lines: dict[tuple[str, ...], int] = {}
    table: tuple[str, ...] = ()
    counts: dict[tuple[str, ...], int] = {}
    for number, line in enumerate(text.splitlines(), 1):
        header = re.match(r"^\s*(\[\[?)([^\]]+)\]", line)
        entry = re.match(r"^\s*([A-Za-z0-9_.\"'-]+)\s*=", line)
        if header:
            table = ()
            *parents, last = _names(header[2])
            for name in parents:
                table = (*table, name)
                # Below an array of tables, a header means the latest of them.
                table = (*table, str(counts[table] - 1)) if table in counts else table
            table = (*table, last)
            if header[1] == "[[":
                counts[table] = counts.get(table, 0) + 1
                lines.setdefault(table, number)
                table = (*table, str(counts[table] - 1))
            lines.setdefault(table, number)
        elif entry:
            names = _names(entry[1])
            for depth in range(1, len(names) + 1):
                lines.setdefault((*table, *names[:depth]), number)
    return lines


def _names(dotted: str) -> list[str]:
    return [name.strip().strip("\"'") for name in dotted.split(".")]
