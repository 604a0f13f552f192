"""Tables in which notebooks show values of this package."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from typing import Any


def html_table(title: str, values: Mapping[str, Any]) -> str:
    """A table of two columns below a title; all text is escaped.

    Args:
        title: what is shown.
        values: the lines, by name.

    >>> html_table("a < b", {"x": 1})
    '<table><caption>a &lt; b</caption><tr><th>x</th><td>1</td></tr></table>'
    """
    lines = "".join(
        f"<tr><th>{html.escape(name)}</th><td>{html.escape(str(value))}</td></tr>"
        for name, value in values.items()
    )
    return f"<table><caption>{html.escape(title)}</caption>{lines}</table>"


def html_columns(title: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """A table with a heading for each column; all text is escaped.

    >>> html_columns("t", ["a"], [["<"]])
    '<table><caption>t</caption><tr><th>a</th></tr><tr><td>&lt;</td></tr></table>'
    """
    head = "".join(f"<th>{html.escape(name)}</th>" for name in columns)
    body = "".join(
        "<tr>" + "".join(f"<td>{html.escape(str(cell))}</td>" for cell in row) + "</tr>"
        for row in rows
    )
    return f"<table><caption>{html.escape(title)}</caption><tr>{head}</tr>{body}</table>"
