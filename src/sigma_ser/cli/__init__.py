"""The command line, one thin module per command.

Heavy packages are imported when a command runs, so `--help` is immediate.
"""

from __future__ import annotations


def main() -> None:
    """Entry point of `sigma-ser`."""
    from .root import run_command_line

    run_command_line()
