"""Progress of a run; the command line draws bars from it."""

from __future__ import annotations

from typing import Protocol, runtime_checkable


@runtime_checkable
class Progress(Protocol):
    """Receives the start of each stage and the completion of its steps."""

    def stage(self, name: str, total: int, cached: int = 0) -> None:
        """A stage of `total` steps begins; `cached` of them were finished before."""

    def advance(self, steps: int = 1) -> None:
        """`steps` more steps of the stage are done."""

    def note(self, text: str) -> None:
        """One line of text for the user."""


class Silent:
    """Ignores all progress."""

    def stage(self, name: str, total: int, cached: int = 0) -> None:
        """Nothing."""

    def advance(self, steps: int = 1) -> None:
        """Nothing."""

    def note(self, text: str) -> None:
        """Nothing."""
