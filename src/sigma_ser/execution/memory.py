"""Memory that was freed and yet stays with the process: given back, so that long runs stay flat."""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Callable
from pathlib import Path

# A model has some ten different operations; utterances of equal length follow each other.
_CAPACITY = 32


class Slack:
    """Hands the free pages of the C library's heap back to the system, now and then.

    Tensors of a new size for every length leave holes that the next ones do not fit, and glibc
    gives back only what lies at the end: a study of many parts crept up by a hundred megabytes.

    Args:
        most: bytes that the process may have grown by before anything is done. Pages that are
            given back and needed again cost time.
    """

    def __init__(self, most: int = 16 << 20) -> None:
        self._most = most
        self._trim = _trim_of_glibc()
        self._level = 0
        try:
            anonymous_bytes()
        except OSError:  # a jail without /proc
            self._trim = None

    def give_back(self) -> None:
        """Call it where much has just been freed."""
        if self._trim is not None and anonymous_bytes() > self._level + self._most:
            self._trim(0)
            self._level = anonymous_bytes()


def release_freed_tables() -> None:
    """Let polars, which has an allocator of its own, give memory back when it is freed.

    By itself it waits for a second or more, in which one table comes after the other. Takes effect
    if polars is not imported yet; `_RJEM_MALLOC_CONF` of the environment goes first.
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
    """Let oneDNN keep the compiled form of 32 operations instead of 1024.

    It keeps one for each operation and shape. Speech has a shape for every length, so that the
    cache grew by 150 MB over 2798 utterances. Takes effect in this process and those that it starts
    until the first operation is compiled; `ONEDNN_PRIMITIVE_CACHE_CAPACITY` of the environment goes
    first.
    """
    os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", str(_CAPACITY))
