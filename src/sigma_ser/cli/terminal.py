"""How commands print results: as wide as the terminal, and never cut where they are piped."""

from __future__ import annotations

import os
import shutil
import sys
import textwrap
from pathlib import Path

from rich.console import Console

# Wider than any table of results.
_PIPED = 1000


def result_width() -> int:
    """Columns of standard output: those of the terminal, or of COLUMNS; 1000 where it is piped."""
    return shutil.get_terminal_size().columns if _is_bounded() else _PIPED


def result_console() -> Console:
    """A rich console on standard output of `result_width` columns."""
    return Console(width=None if _is_bounded() else _PIPED)


def indented(text: str, indent: int = 2, first: str = "") -> str:
    """Text in lines that fit the output, all of them indented.

    Args:
        text: one paragraph.
        indent: number of blanks before each line.
        first: text in place of the blanks of the first line, padded to the same width.
    """
    return textwrap.fill(
        text,
        max(result_width(), 2 * indent, 40),
        initial_indent=first.ljust(indent),
        subsequent_indent=" " * indent,
        break_long_words=False,
        break_on_hyphens=False,
    )


def command_name() -> str:
    """How `sigma-ser` is called from here: by its path, where it is not on the search path."""
    called = Path(sys.argv[0])
    if called.stem != "sigma-ser":
        return f"{sys.executable} -m sigma_ser" if called.stem == "__main__" else "sigma-ser"
    found = shutil.which("sigma-ser")
    if found is not None and Path(found).resolve() == called.resolve():
        return "sigma-ser"
    return os.path.relpath(called) if Path.cwd() in called.absolute().parents else str(called)


def _is_bounded() -> bool:
    return sys.stdout.isatty() or bool(os.environ.get("COLUMNS"))
