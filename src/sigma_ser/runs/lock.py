"""One run at a time in one folder."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from sigma_ser.core.errors import RunError
from sigma_ser.core.locks import exclusive, is_held

_FILE = ".lock"


@contextlib.contextmanager
def run_lock(folder: Path) -> Iterator[None]:
    """Hold the folder of a run; the lock ends with the process, however that ends.

    Raises:
        RunError: if another run holds it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    busy = RunError(
        f"another run is already using {folder}; wait until it ends, or give another run folder "
        "(--out)"
    )
    with exclusive(folder / _FILE, busy):
        yield


def is_locked(folder: Path) -> bool:
    """Whether a run is at work in a folder."""
    return is_held(folder / _FILE)
