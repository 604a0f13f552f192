"""How the benchmarks measure: works in turns, processor time, peak memory. Imported by them."""

from __future__ import annotations

import statistics
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

Work = Callable[[], object]


@dataclass(frozen=True)
class Ratio:
    """A ratio of two times: the median over the rounds, and its quartiles."""

    median: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.median:.2f} ({self.low:.2f} to {self.high:.2f})"


def in_turns(works: Sequence[Work], rounds: int) -> list[list[float]]:
    """Processor seconds of each work in every round (A B A B ...), after one to warm up.

    Processor time, because others may use the machine; with one thread it is what a free machine's
    clock would show.
    """
    times: list[list[float]] = [[] for _ in works]
    for turn in range(rounds + 1):
        for work, taken in zip(works, times, strict=True):
            started = time.process_time()
            work()
            if turn:
                taken.append(time.process_time() - started)
    return times


def ratio(numerator: Sequence[float], denominator: Sequence[float]) -> Ratio:
    """Ratio of two works timed in turns, round by round."""
    values = sorted(n / d for n, d in zip(numerator, denominator, strict=True))
    quarter = len(values) // 4
    return Ratio(statistics.median(values), values[quarter], values[-1 - quarter])


def anonymous_bytes() -> int:
    """RssAnon of this process: memory that is its own, mapped files left out (Linux)."""
    status = Path("/proc/self/status").read_text()
    line = next(line for line in status.splitlines() if line.startswith("RssAnon"))
    return int(line.split()[1]) * 1024


def peak_anonymous(work: Work, every: float = 0.002) -> int:
    """The largest RssAnon seen while the work runs, in bytes."""
    peak, ended = 0, threading.Event()

    def watch() -> None:
        nonlocal peak
        while not ended.wait(every):
            peak = max(peak, anonymous_bytes())

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        work()
    finally:
        ended.set()
        watcher.join()
    return max(peak, anonymous_bytes())
