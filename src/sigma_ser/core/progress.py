"""How a run tells where it stands; the command line draws bars from it."""

from __future__ import annotations

from typing import Protocol, runtime_checkable


@runtime_checkable
class Progress(Protocol):
    """Is told when a stage begins and when one of its steps is done."""

    def stage(self, name: str, total: int, cached: int = 0) -> None:
        """A stage of `total` steps begins; `cached` of them were there already."""

    def advance(self, steps: int = 1) -> None:
        """So many steps of the stage are done."""

    def note(self, text: str) -> None:
        """One line worth reading."""


class Silent:
    """Says nothing."""

    def stage(self, name: str, total: int, cached: int = 0) -> None:
        """Nothing."""

    def advance(self, steps: int = 1) -> None:
        """Nothing."""

    def note(self, text: str) -> None:
        """Nothing."""
