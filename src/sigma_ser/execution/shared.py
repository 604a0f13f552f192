"""Tasks that several processes divide among themselves, without one that directs them."""

from __future__ import annotations

import contextlib
import hashlib
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sigma_ser.core.locks import Claims

from .executor import Fault, Result, Task, entered

# Number of processes that may die at one task.
_DEATHS = 3
_POLL_SECONDS = 0.5
_STARTED, _FAULT = "started", "fault "


@dataclass(frozen=True)
class Shared:
    """An executor for one of several processes with the same tasks on one file system.

    Each process claims tasks one after the other and waits for those that others have claimed. All
    of them have the same results in the end. The claim of a process that dies is released by the
    system, and another process takes the task, unless processes have died there three times.

    Args:
        folder: of the claims; it must exist, and be empty before the first process starts.
    """

    folder: Path
    workers = 1
    in_process = True

    def completed(
        self, function: Callable[[Task], Result], tasks: Sequence[Task]
    ) -> Iterator[tuple[int, Result]]:
        """Yield `(position, fault)` as the tasks end, in any process.

        Each task has a `target`, the file that it writes last; the function returns a `Fault`, or
        `None` once that file exists.
        """
        waiting = dict(enumerate(tasks))
        with entered(function), Claims(self.folder / "claims") as claims:
            while waiting:
                before = len(waiting)
                for position, task in list(waiting.items()):
                    done, fault = self._attempt(function, task, claims)
                    if done:
                        del waiting[position]
                        yield position, fault
                if len(waiting) == before:
                    time.sleep(_POLL_SECONDS)

    def _attempt(
        self, function: Callable[[Any], Any], task: Any, claims: Claims
    ) -> tuple[bool, Any]:
        """Whether a task has ended, and with which fault; does it if nobody else does."""
        name = str(task.target)
        record = self.folder / hashlib.blake2b(name.encode(), digest_size=16).hexdigest()
        if task.target.exists():
            return True, None
        if (fault := _recorded(record)) is not None:
            return True, fault
        with claims.claimed(name) as ours:
            if not ours:
                return False, None
            # It may have ended before the claim was ours.
            if task.target.exists():
                return True, None
            if (fault := _recorded(record, at_rest=True)) is not None:
                return True, fault
            with _attempts_counted(record):
                fault = function(task)
            if fault is not None:
                record.write_text(_FAULT + fault.reason, "utf-8")
            return True, fault


@contextlib.contextmanager
def _attempts_counted(record: Path) -> Iterator[None]:
    """Count an attempt until the block ends in any way but the death of the process."""
    before = record.read_text("utf-8") if record.exists() else ""
    record.write_text(f"{before}{_STARTED}\n", "utf-8")
    try:
        yield
    finally:
        record.unlink()


def _recorded(record: Path, at_rest: bool = False) -> Fault | None:
    """The fault of a task that was given up; `at_rest` where nobody else can be at work on it."""
    try:
        text = record.read_text("utf-8")
    except FileNotFoundError:
        return None
    if text.startswith(_FAULT):
        return Fault(text.removeprefix(_FAULT), final=True)
    if at_rest and text.count(_STARTED) >= _DEATHS:
        return Fault(f"{_DEATHS} workers died at it; check for a lack of memory", final=True)
    return None
