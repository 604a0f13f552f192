"""Locks between processes: one writer at a time in a folder."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from filelock import FileLock, Timeout

# `is_held` takes a free lock for a moment; a process that starts in that moment waits.
_PATIENCE_SECONDS = 0.5
# Between two attempts to take a lock that another process holds for long.
_POLL_SECONDS = 0.2


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


@contextlib.contextmanager
def shared(path: Path) -> Iterator[None]:
    """Hold a lock file together with other processes that hold it so, and with no other one.

    A process that holds it with `exclusive` is waited for.

    Args:
        path: the lock file, in a folder that exists; it stays in place.
    """
    import fcntl  # not on Windows

    file = os.open(path, os.O_RDWR | os.O_CREAT)
    try:
        while not _took(lambda: fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)):
            time.sleep(_POLL_SECONDS)
        yield
    finally:
        os.close(file)


class Claims:
    """Pieces of work that each belong to one process at a time; a context manager.

    A claim locks one byte of a file, at a position that the name of the piece determines, so
    millions of claims need one file. The system releases the claims of a process that ends, however
    it ends. The locks are those of POSIX, which network file systems pass between machines. They
    belong to a process: two objects in one process do not exclude each other.

    Args:
        path: the file of the locks, in a folder that exists; it stays in place.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = -1

    def __enter__(self) -> Claims:
        self._file = os.open(self._path, os.O_RDWR | os.O_CREAT)
        return self

    def __exit__(self, *ended: object) -> None:
        os.close(self._file)

    @contextlib.contextmanager
    def claimed(self, name: str) -> Iterator[bool]:
        """Claim a piece of work; yields False at once where another process has it."""
        import fcntl  # not on Windows

        place = int.from_bytes(hashlib.blake2b(name.encode(), digest_size=7).digest(), "big")
        if not _took(lambda: fcntl.lockf(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, place)):
            yield False
            return
        try:
            yield True
        finally:
            fcntl.lockf(self._file, fcntl.LOCK_UN, 1, place)

    @contextlib.contextmanager
    def awaited(self, name: str) -> Iterator[None]:
        """Claim a piece of work, after the process that has it."""
        while True:
            with self.claimed(name) as ours:
                if ours:
                    yield
                    return
            time.sleep(_POLL_SECONDS)


def _took(attempt: Callable[[], None]) -> bool:
    """Whether a lock could be taken without waiting."""
    try:
        attempt()
    except (BlockingIOError, PermissionError):
        return False
    return True


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
