"""Checking many recordings in parallel, a few hundred at a time, however many there are."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

from sigma_ser.audio.reading import inspect_audio
from sigma_ser.core.cores import usable_cores
from sigma_ser.core.errors import AudioError

from .check_cache import Memory
from .reader import Verdict

Progress = Callable[[int, int], None]
"""Told how many files are done, of how many."""

# What lies outside the file, so that its size and time do not tell when it is mended.
_FLEETING = frozenset({"missing", "no-permission", "link-loop", "not-a-file", "unreadable"})
# Few enough that their verdicts weigh nothing, many enough to keep all threads busy.
_AT_ONCE = 512


def check_files(
    paths: Sequence[Path],
    *,
    max_seconds: float,
    workers: int | None = None,
    memory: Path | None = None,
    known: Mapping[str, Verdict] | None = None,
    again: bool = False,
    progress: Progress | None = None,
) -> Iterator[Verdict]:
    """Read every recording once and say what it is.

    Threads do it: libsndfile and the hash let go of Python's lock, and nothing is copied between
    processes. Each holds a few megabytes at a time, however long the recordings are.

    Args:
        paths: absolute paths.
        max_seconds: longer recordings are faults.
        workers: threads; `None` is one for each processor, 8 at most.
        memory: root of the corpus, whose verdicts are remembered; `None` remembers nothing.
        known: checks done before that came with a manifest, by path.
        again: trust neither of the two, but remember what is found now.
        progress: called once at the start, with what is remembered, and after each file.

    Yields:
        A verdict for each path, in their order.
    """
    count = min(workers or min(usable_cores(), 8), max(1, len(paths)))
    known = known or {}
    chunks = [slice(start, start + _AT_ONCE) for start in range(0, len(paths), _AT_ONCE)]
    with (
        closing(Memory(memory, max_seconds)) as remembered,
        ThreadPoolExecutor(count, thread_name_prefix="check") as pool,
    ):
        done = 0
        if progress:
            if not again:
                done = sum(len(_still_true(paths[at], remembered, known)) for at in chunks)
            progress(done, len(paths))
        for at in chunks:
            chunk = list(paths[at])
            verdicts = {} if again else _still_true(chunk, remembered, known)
            unseen = [row for row in range(len(chunk)) if row not in verdicts]
            distinct = {str(chunk[row]): chunk[row] for row in unseen}
            times = Counter(str(chunk[row]) for row in unseen)
            found: dict[str, Verdict] = {}
            try:
                results = pool.map(lambda path: _inspect(path, max_seconds), distinct.values())
                for name, verdict in zip(distinct, results, strict=True):
                    found[name] = verdict
                    if progress:
                        done += times[name]
                        progress(done, len(paths))
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise
            finally:
                # Also where somebody stops it: what was read is not read again.
                remembered.remember(
                    {
                        distinct[name]: verdict
                        for name, verdict in found.items()
                        if verdict.reason not in _FLEETING
                    }
                )
            verdicts |= {row: found[str(chunk[row])] for row in unseen}
            yield from (verdicts[row] for row in range(len(chunk)))


def _still_true(
    paths: Sequence[Path], remembered: Memory, known: Mapping[str, Verdict]
) -> dict[int, Verdict]:
    """Verdicts of before on files that have not changed since, by their place in `paths`."""
    before = remembered.recall(paths)
    trusted = {}
    for row, path in enumerate(paths):
        old = before.get(str(path)) or known.get(str(path))
        if old is not None and (old.size, old.mtime_ns) == _stamp(path):
            trusted[row] = old
    return trusted


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
