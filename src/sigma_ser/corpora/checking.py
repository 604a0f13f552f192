"""Checking many recordings in parallel, and remembering what was found.

A recording is remembered by path, size and modification time, in one file for each corpus folder
below `~/.cache/sigma-ser/checked` (`SIGMA_SER_CACHE` moves it).
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import Any

from sigma_ser.audio.reading import inspect_audio
from sigma_ser.audio.recording import AudioFacts
from sigma_ser.core.errors import AudioError
from sigma_ser.core.files import content_key, whole_file

from .reader import Verdict

Progress = Callable[[int, int], None]
"""Told how many files are done, of how many."""

# Raised whenever a check finds more or fewer faults than before.
_VERSION = 1
# These lie outside the file, so its size and time do not tell when they are mended.
_FLEETING = frozenset({"missing", "no-permission", "link-loop", "not-a-file", "unreadable"})
_log = logging.getLogger(__name__)


def check_files(
    paths: Iterable[Path],
    *,
    max_seconds: float,
    workers: int | None = None,
    memory: Path | None = None,
    known: Mapping[str, Verdict] | None = None,
    again: bool = False,
    progress: Progress | None = None,
) -> dict[Path, Verdict]:
    """Read every recording once and say what it is.

    Threads do it: libsndfile and the hash let go of Python's lock, and nothing is copied between
    processes. Each holds a few megabytes at a time, however long the recordings are.

    Args:
        paths: absolute paths.
        max_seconds: longer recordings are faults.
        workers: threads; `None` is one for each processor, 8 at most.
        memory: file of what was found before; `None` remembers nothing.
        known: checks done before that came with a manifest.
        again: trust neither of the two, but remember what is found now.
        progress: called once at the start, with what is remembered, and after each file.

    Returns:
        One verdict for each path.
    """
    paths = list(dict.fromkeys(paths))
    remembered = _recall(memory, max_seconds)
    trusted = {} if again else {**(known or {}), **remembered}
    verdicts: dict[Path, Verdict] = {}
    unseen: list[Path] = []
    for path in paths:
        old = trusted.get(str(path))
        if old is not None and (old.size, old.mtime_ns) == _stamp(path):
            verdicts[path] = old
        else:
            unseen.append(path)
    if progress:
        progress(len(verdicts), len(paths))
    if unseen:
        count = min(workers or min(_processors(), 8), len(unseen))
        with ThreadPoolExecutor(count, thread_name_prefix="check") as pool:
            try:
                results = pool.map(lambda path: _inspect(path, max_seconds), unseen)
                for path, verdict in zip(unseen, results, strict=True):
                    verdicts[path] = verdict
                    if progress:
                        progress(len(verdicts), len(paths))
            finally:
                pool.shutdown(cancel_futures=True)
                if memory is not None:
                    _remember(memory, max_seconds, {**remembered, **_named(verdicts)})
    return {path: verdicts[path] for path in paths}


def cache_folder() -> Path:
    """Where things are kept that can be made again: `SIGMA_SER_CACHE`, or below `~/.cache`."""
    return Path(
        os.environ.get("SIGMA_SER_CACHE")
        or Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "sigma-ser"
    )


def memory_of(root: Path) -> Path:
    """The file that remembers the recordings below `root`."""
    return cache_folder() / "checked" / f"{content_key(os.fsencode(root).hex())}.json"


def _inspect(path: Path, max_seconds: float) -> Verdict:
    size, mtime_ns = _stamp(path)
    try:
        return Verdict(size, mtime_ns, inspect_audio(path, max_seconds=max_seconds))
    except AudioError as error:
        return Verdict(size, mtime_ns, None, error.reason, str(error))


def _stamp(path: Path) -> tuple[int, int]:
    try:
        status = path.stat()
    except (OSError, ValueError):
        return -1, -1
    return status.st_size, status.st_mtime_ns


def _processors() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _named(verdicts: Mapping[Path, Verdict]) -> dict[str, Verdict]:
    return {
        str(path): verdict for path, verdict in verdicts.items() if verdict.reason not in _FLEETING
    }


def _recall(memory: Path | None, max_seconds: float) -> dict[str, Verdict]:
    """What was found before; nothing if the memory is absent, damaged or of another version."""
    if memory is None:
        return {}
    try:
        # Made while the file is parsed: all rows as dicts would take four times the memory.
        content = json.loads(memory.read_text("utf-8"), object_hook=_parsed)
        if (content["version"], content["max_seconds"]) != (_VERSION, max_seconds):
            return {}
        files: dict[str, Verdict] = content["files"]
        if not all(isinstance(verdict, Verdict) for verdict in files.values()):
            raise ValueError("a line is no verdict")
        return files
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, KeyError, TypeError) as error:
        _log.warning("what was checked before cannot be read (%s); checking again", error)
        return {}


def _parsed(row: dict[str, Any]) -> Any:
    """An object of the memory: facts, a verdict, or what holds them."""
    if "content" in row:
        return AudioFacts(**{**row, "warnings": tuple(row["warnings"])})
    return Verdict(**row) if "facts" in row else row


def _remember(memory: Path, max_seconds: float, verdicts: Mapping[str, Verdict]) -> None:
    content = {
        "version": _VERSION,
        "max_seconds": max_seconds,
        "files": {path: asdict(verdict) for path, verdict in verdicts.items()},
    }
    try:
        with whole_file(memory) as aside:
            # ASCII, because file names may hold bytes that are no UTF-8.
            aside.write_text(json.dumps(content, ensure_ascii=True), "ascii")
    except OSError as error:
        _log.warning("what was checked cannot be remembered (%s)", error)
