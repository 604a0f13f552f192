"""Progress on standard error: bars on a terminal, plain lines elsewhere."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Iterator
from importlib.util import find_spec

from .progress import Progress, shown_on

# Names of the stages of a study, in words.
_TITLES = {
    "victims": "training",
    "gradients": "gradient checks",
    "floors": "random controls",
    "exemplars": "pictures",
}


def stage_title(name: str) -> str:
    """Name of a stage of a study for people."""
    return _TITLES.get(name, name)


class _Lines:
    """One line at the start and end of a stage, and one every 30 seconds."""

    _EVERY = 30.0  # seconds

    def __init__(self) -> None:
        self._name, self._total, self._done = "", 0, 0
        self._started = self._printed = 0.0

    def stage(self, name: str, total: int, cached: int = 0) -> None:
        self._name, self._total, self._done = stage_title(name), total, cached
        self._started = self._printed = time.monotonic()
        existing = f", {cached} already complete" if cached else ""
        self._print(f"{self._name}: {total}{existing}")

    def advance(self, steps: int = 1) -> None:
        self._done += steps
        now = time.monotonic()
        if self._done == self._total:
            self._print(f"{self._name}: done in {now - self._started:.1f} s")
        elif now - self._printed > self._EVERY:
            self._printed = now
            self._print(f"{self._name}: {self._done} of {self._total}")

    def note(self, text: str) -> None:
        self._print(text)

    @staticmethod
    def _print(text: str) -> None:
        print(text, file=sys.stderr, flush=True)


@contextlib.contextmanager
def show_progress() -> Iterator[Progress]:
    """Show the progress of extraction, training, attacks and studies inside a `with` block.

    Bars are drawn on a terminal, and in a notebook where the package `ipywidgets` is installed;
    elsewhere, lines are printed on standard error.

    >>> import sigma_ser as ss
    >>> with ss.show_progress():
    ...     pass  # ss.extract(...), ss.train(...), ss.attack(...)
    """
    with progress_on_stderr() as progress, shown_on(progress):
        yield progress


@contextlib.contextmanager
def progress_on_stderr() -> Iterator[Progress]:
    """Progress bars on a terminal, lines elsewhere; for functions that take a `Progress`."""
    if not sys.stderr.isatty() and not _draws_widgets():
        yield _Lines()
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        TaskID,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )
    from rich.progress import Progress as RichProgress

    class Bars:
        task: TaskID

        def stage(self, name: str, total: int, cached: int = 0) -> None:
            self.task = bars.add_task(stage_title(name), total=total, completed=cached)

        def advance(self, steps: int = 1) -> None:
            bars.advance(self.task, steps)

        def note(self, text: str) -> None:
            bars.console.print(text)

    with RichProgress(
        TextColumn("{task.description:<15}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
    ) as bars:
        yield Bars()


def _draws_widgets() -> bool:
    """Whether this is a notebook in which rich can draw bars."""
    from rich.console import Console

    return Console().is_jupyter and find_spec("ipywidgets") is not None
