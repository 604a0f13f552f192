"""Griffe extension: render doctests in docstrings as examples (mkdocs.yml names this file).

Griffe recognises doctests only below the heading "Examples:". Without it they are read as Markdown,
where `>>>` is a quotation and a list of tuples looks like a link. The heading would be of no use to
a reader of the sources, so it is inserted when the documentation is built.
"""

from __future__ import annotations

from typing import Any

import griffe


class DoctestExamples(griffe.Extension):
    """Put the heading above every doctest that has none."""

    def on_instance(self, *, obj: griffe.Object, **kwargs: Any) -> None:
        if obj.docstring is not None and ">>> " in obj.docstring.value:
            obj.docstring.value = with_headings(obj.docstring.value)


def with_headings(docstring: str) -> str:
    """The docstring with "Examples:" above each block of doctests that is not indented."""
    lines: list[str] = []
    inside = False
    for line in docstring.split("\n"):
        if line.startswith(">>> ") and not inside:
            inside = True
            lines.append("Examples:")
        elif not line.strip():
            inside = False
        lines.append("    " + line if inside else line)
    return "\n".join(lines)
