"""Locks between processes: one writer at a time in a folder."""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock, Timeout

# `is_held` takes a free lock for a moment; a process that starts in that moment waits.
_PATIENCE_SECONDS = 0.5


@contextlib.contextmanager
def exclusive(path: Path, busy: Exception) -> Iterator[None]:
    """Hold a lock file; the system releases it when the process ends, however it ends.

    Args:
        path: the lock file; it stays in place.
        busy: raised if another process holds the lock.
    """
    lock = FileLock(path, timeout=_PATIENCE_SECONDS)
    try:
        lock.acquire()
    except Timeout:
        raise busy from None
    try:
        yield
    finally:
        lock.release()


def is_held(path: Path) -> bool:
    """Whether a process holds a lock file; True as well where this process may not try."""
    if not path.exists():
        return False
    try:
        with FileLock(path, timeout=0):
            return False
    except OSError as fault:  # `Timeout` among them
        # Nobody writes to a read-only file system.
        return fault.errno != errno.EROFS
