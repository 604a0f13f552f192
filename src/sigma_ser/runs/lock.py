"""One run at a time in one folder, or the jobs of one run."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from sigma_ser.core.errors import BusyError
from sigma_ser.core.locks import exclusive, is_held, shared

_FILE = ".lock"


@contextlib.contextmanager
def run_lock(folder: Path) -> Iterator[None]:
    """Hold the folder of a run; the lock ends with the process, however that ends.

    Raises:
        BusyError: if another run holds it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    busy = BusyError(
        f"another run is already using {folder}; wait until it ends, or give another run folder "
        "(--out)"
    )
    with exclusive(folder / _FILE, busy):
        yield


@contextlib.contextmanager
def job_lock(folder: Path) -> Iterator[None]:
    """Hold the folder of a run together with its other jobs, after a run that holds it alone."""
    with shared(folder / _FILE):
        yield


def is_locked(folder: Path) -> bool:
    """Whether a run or its jobs are at work in a folder."""
    return is_held(folder / _FILE)
