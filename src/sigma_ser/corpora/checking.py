"""Checks of many recordings in parallel, a few hundred at a time."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

from sigma_ser.audio.reading import inspect_audio
from sigma_ser.core.cores import usable_cores
from sigma_ser.core.errors import AudioError

from .check_cache import CheckCache
from .reader import Verdict
from .segments import Place

Progress = Callable[[int, int], None]
"""Called with the number of finished files and the number of all files."""

# Faults outside the file, whose repair does not change its size and modification time.
_NOT_CACHED = frozenset({"missing", "no-permission", "link-loop", "not-a-file", "unreadable"})
# Few enough that their results take little memory, many enough to keep all threads busy.
_AT_ONCE = 512


def check_files(
    places: Sequence[Place],
    *,
    max_seconds: float,
    workers: int | None = None,
    cache_root: Path | None = None,
    known: Mapping[str, Verdict] | None = None,
    again: bool = False,
    progress: Progress | None = None,
) -> Iterator[Verdict]:
    """Read every recording or segment once and return its facts or fault.

    The work is done in threads: libsndfile and the hash release the GIL, and nothing is copied
    between processes. Each thread needs a few megabytes, whatever the length of the recordings.

    Args:
        places: files with absolute paths, or segments of them.
        max_seconds: limit of the duration; a longer recording is a fault.
        workers: number of threads; `None` is one for each core, at most 8.
        cache_root: root of the corpus, for the cache of checks; `None` caches nothing.
        known: earlier checks in a manifest, by `Place.key`.
        again: whether to ignore both; new results are cached.
        progress: called at the start, with the number of cached results, and after each file.

    Yields:
        A verdict for each place, in their order.
    """
    count = min(workers or min(usable_cores(), 8), max(1, len(places)))
    known = known or {}
    chunks = [slice(start, start + _AT_ONCE) for start in range(0, len(places), _AT_ONCE)]
    with (
        closing(CheckCache(cache_root, max_seconds)) as cache,
        ThreadPoolExecutor(count, thread_name_prefix="check") as pool,
    ):
        done = 0
        if progress:
            if not again:
                done = sum(len(_still_valid(places[at], cache, known)) for at in chunks)
            progress(done, len(places))
        for at in chunks:
            chunk = list(places[at])
            verdicts = {} if again else _still_valid(chunk, cache, known)
            unseen = [row for row in range(len(chunk)) if row not in verdicts]
            distinct = {chunk[row].key: chunk[row] for row in unseen}
            times = Counter(chunk[row].key for row in unseen)
            found: dict[str, Verdict] = {}
            try:
                results = pool.map(lambda place: _inspect(place, max_seconds), distinct.values())
                for name, verdict in zip(distinct, results, strict=True):
                    found[name] = verdict
                    if progress:
                        done += times[name]
                        progress(done, len(places))
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise
            finally:
                # Also after an interrupt, so that finished files are not read again.
                cache.store(
                    {
                        name: verdict
                        for name, verdict in found.items()
                        if verdict.reason not in _NOT_CACHED
                    }
                )
            verdicts |= {row: found[chunk[row].key] for row in unseen}
            yield from (verdicts[row] for row in range(len(chunk)))


def _still_valid(
    places: Sequence[Place], cache: CheckCache, known: Mapping[str, Verdict]
) -> dict[int, Verdict]:
    """Earlier verdicts on files that have not changed since, by their position in `places`."""
    keys = [place.key for place in places]
    cached = cache.load(keys)
    valid = {}
    for row, (key, place) in enumerate(zip(keys, places, strict=True)):
        old = cached.get(key) or known.get(key)
        if old is not None and (old.size, old.mtime_ns) == _stamp(place):
            valid[row] = old
    return valid


def _inspect(place: Place, max_seconds: float) -> Verdict:
    size, mtime_ns = _stamp(place)
    try:
        facts = inspect_audio(place.path, max_seconds=max_seconds, start=place.start, end=place.end)
        return Verdict(size, mtime_ns, facts)
    except AudioError as error:
        return Verdict(size, mtime_ns, None, error.reason, str(error))


def _stamp(place: Place) -> tuple[int, int]:
    try:
        status = place.path.stat()
    except (OSError, ValueError):
        return -1, -1
    return status.st_size, status.st_mtime_ns
