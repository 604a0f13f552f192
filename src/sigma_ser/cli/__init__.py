"""The command line, one file a command, thin; heavy rooms are imported when a command runs."""

from __future__ import annotations


def main() -> None:
    """Entry point of `sigma-ser`."""
    from .root import run_command_line

    run_command_line()
