"""How the benchmarks measure and what they write. Imported by them.

Works in turns, processor time, peak memory; and flat records, judged against their targets.
"""

from __future__ import annotations

import datetime
import importlib.metadata
import platform
import statistics
import subprocess
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sigma_ser.core.files import write_json

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


def record(
    name: str,
    setting: str,
    value: float | Ratio,
    unit: str,
    *,
    at_most: float | None = None,
    at_least: float | None = None,
    low: float | None = None,
    high: float | None = None,
) -> dict[str, Any]:
    """One figure, with its spread and its target where it has them: a line of every result.

    A record is flat: `name, setting, value, low, high, unit, target, met`. `target` is a text such
    as `<= 1.15`; `met` is `None` where there is no target.
    """
    if isinstance(value, Ratio):
        value, low, high = value.median, value.low, value.high
    target, met = None, None
    if at_most is not None:
        target, met = f"<= {at_most:g}", value <= at_most
    elif at_least is not None:
        target, met = f">= {at_least:g}", value >= at_least
    return {
        "name": name, "setting": setting, "value": value, "low": low, "high": high,
        "unit": unit, "target": target, "met": met,
    }  # fmt: skip


def figure(value: float | None) -> str:
    """A number as tables show it: four digits, none at all where there is no number."""
    return "" if value is None else f"{value:,.0f}" if abs(value) >= 1e4 else f"{value:.4g}"


def verdict(line: dict[str, Any]) -> str:
    """`met`, `**missed**`, or nothing."""
    return {None: "", True: "met", False: "**missed**"}[line["met"]]


def table(records: Sequence[dict[str, Any]]) -> str:
    """Records in Markdown."""
    lines = ["| what | setting | figure | spread | target | |", "|---|---|--:|--:|--:|---|"]
    for one in records:
        spread = "" if one["low"] is None else f"{figure(one['low'])} to {figure(one['high'])}"
        lines.append(
            f"| {one['name']} | {one['setting']} | {figure(one['value'])} {one['unit']} "
            f"| {spread} | {one['target'] or ''} | {verdict(one)} |"
        )
    return "\n".join(lines)


def write_records(path: Path | None, records: Sequence[dict[str, Any]]) -> None:
    """Write the records where `--out` asks for it."""
    if path is not None:
        write_json(path, list(records))


def environment() -> dict[str, Any]:
    """Date, machine and versions."""
    packages = ("torch", "sigma-ser", "captum", "quantus", "torchattacks", "foolbox", "adv-lib",
                "adversarial-robustness-toolbox")  # fmt: skip
    found = {}
    for name in packages:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = "not installed"
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"],
        capture_output=True, text=True, check=False, cwd=Path(__file__).parent,
    )  # fmt: skip
    processor = next(
        (line.split(":")[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines()
         if line.startswith("model name")), platform.processor(),
    )  # fmt: skip
    return {
        "date": datetime.date.today().isoformat(), "machine": processor, "threads": 1,
        "python": platform.python_version(), "commit": commit.stdout.strip(), "versions": found,
    }  # fmt: skip
