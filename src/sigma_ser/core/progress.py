"""Progress of a run and of single calls, from which bars are drawn."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from contextvars import ContextVar
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


# Of the `with` block that the code runs in; workers and other threads have none.
_current: ContextVar[Progress | None] = ContextVar("sigma_ser_progress", default=None)


@contextlib.contextmanager
def shown_on(progress: Progress | None) -> Iterator[None]:
    """Send the stages of the code in this block to `progress`; `None` shows none of them."""
    token = _current.set(progress)
    try:
        yield
    finally:
        _current.reset(token)


def current_progress() -> Progress:
    """The progress of the surrounding `shown_on`, which ignores everything where there is none."""
    return _current.get() or Silent()


def ignored(steps: int) -> None:
    """The `advance` of a stage that nobody shows."""


@contextlib.contextmanager
def stage(name: str, total: int) -> Iterator[Callable[[int], None]]:
    """One stage of the surrounding `shown_on`; stages inside of it are not shown.

    Args:
        name: of the stage.
        total: number of its steps.

    Yields:
        A function that counts finished steps. A stage that ends without an error is complete.
    """
    progress = _current.get()
    if progress is None or not total:
        yield ignored
        return
    left = total

    def advance(steps: int) -> None:
        nonlocal left
        steps = min(steps, left)
        left -= steps
        if steps:
            progress.advance(steps)

    progress.stage(name, total)
    with shown_on(None):
        yield advance
    advance(left)
