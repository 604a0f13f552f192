"""Process memory: freed memory is returned to the system, so that long runs do not grow."""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Callable
from pathlib import Path

# A model has about ten different operations, and utterances of equal length follow each other.
_CAPACITY = 32


class Slack:
    """Returns free pages of the C library's heap to the system from time to time.

    Every utterance length needs tensors of another size. They leave gaps in the heap, and glibc
    returns only pages at its end, so a study of many parts grew by a hundred megabytes.

    Args:
        most: growth of the process in bytes before anything is done. Pages that are returned and
            needed again cost time.
    """

    def __init__(self, most: int = 16 << 20) -> None:
        self._most = most
        self._trim = _trim_of_glibc()
        self._level = 0
        try:
            anonymous_bytes()
        except OSError:  # a sandbox without /proc
            self._trim = None

    def give_back(self) -> None:
        """Return free pages; called where much memory has just been freed."""
        if self._trim is not None and anonymous_bytes() > self._level + self._most:
            self._trim(0)
            self._level = anonymous_bytes()


def release_freed_tables() -> None:
    """Let the allocator of polars return memory to the system as soon as it is freed.

    By default it waits for a second or more, while further tables are made. This takes effect if
    polars has not been imported yet; `_RJEM_MALLOC_CONF` of the environment has precedence.
    """
    os.environ.setdefault("_RJEM_MALLOC_CONF", "dirty_decay_ms:0,muzzy_decay_ms:0")


def anonymous_bytes() -> int:
    """Bytes of memory of this process that belong to no file (Linux)."""
    _, resident, shared = map(int, Path("/proc/self/statm").read_text("ascii").split()[:3])
    return (resident - shared) * os.sysconf("SC_PAGE_SIZE")


def _trim_of_glibc() -> Callable[[int], int] | None:
    if sys.platform != "linux":
        return None
    trim: Callable[[int], int] | None = getattr(ctypes.CDLL(None), "malloc_trim", None)
    return trim  # musl has none


def bound_primitive_cache() -> None:
    """Limit the cache of compiled oneDNN operations to 32 instead of 1024.

    oneDNN compiles each operation for each shape, and speech has a shape for every length: the
    cache grew by 150 MB over 2798 utterances. This takes effect in this process and its children
    until the first operation is compiled; `ONEDNN_PRIMITIVE_CACHE_CAPACITY` of the environment has
    precedence.
    """
    os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", str(_CAPACITY))
