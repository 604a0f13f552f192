"""What a checked corpus costs beside a bare loop over the same files.

    python benchmarks/corpus_check.py tess /data/tess [--workers 2] [--repeats 3] [--json]

All rows run in this process, on the same files, with the same number of threads, turn by turn:

- `decode`: soundfile alone;
- `bare loop`: soundfile, mean of the channels, soxr VHQ to 16 kHz, nothing else;
- `read_audio`: the same samples, with every fault looked for;
- `corpus check`: the command with `--again --json`: finding, checking, hashing, counting, writing
  the memory. It decodes every file to its end and resamples none, since no fault needs it.

Ratios are to the bare loop; those of processor time do not depend on who else uses the machine.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import soundfile
import soxr

from measuring import record, write_records
from sigma_ser.audio.reading import read_audio
from sigma_ser.cli.corpus import check
from sigma_ser.corpora.corpus import load_corpus


def decode(path: Path) -> int:
    """Samples of the file."""
    return len(soundfile.read(path, dtype="float32", always_2d=True)[0])


def bare(path: Path) -> int:
    """Samples at 16 kHz, with the shortest code that gives them."""
    wave, rate = soundfile.read(path, dtype="float32", always_2d=True)
    mono = wave[:, 0] if wave.shape[1] == 1 else wave.mean(1)
    return len(mono if rate == 16_000 else soxr.resample(mono, rate, 16_000, quality="VHQ"))


def checked(path: Path) -> int:
    """The same through the project."""
    return len(read_audio(path))


def over(read: Callable[[Path], int], paths: list[Path], workers: int) -> Callable[[], None]:
    """Read all files with so many threads."""

    def run() -> None:
        with ThreadPoolExecutor(workers) as pool:
            assert sum(pool.map(read, paths)) > 0

    return run


def command(name: str, root: str | None, workers: int) -> Callable[[], None]:
    """`sigma-ser corpus check NAME ROOT --again --json --workers N`, its output thrown away."""

    def run() -> None:
        sink = io.StringIO()
        with contextlib.redirect_stdout(sink), contextlib.redirect_stderr(sink):
            check(name, root, as_json=True, again=True, workers=workers)

    return run


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("name")
    parser.add_argument("root", nargs="?")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--out", type=Path, help="figures as flat records, JSON")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as memory:
        os.environ["SIGMA_SER_CACHE"] = memory
        # Also brings all files into the page cache, for everybody alike.
        paths = [one.path for one in load_corpus(options.name, options.root)]
        rows = {
            "decode": over(decode, paths, options.workers),
            "bare loop": over(bare, paths, options.workers),
            "read_audio": over(checked, paths, options.workers),
            "corpus check": command(options.name, options.root, options.workers),
        }
        wall: dict[str, list[float]] = {name: [] for name in rows}
        processor: dict[str, list[float]] = {name: [] for name in rows}
        for _ in range(options.repeats):
            for name, run in rows.items():
                started, used = time.perf_counter(), time.process_time()
                run()
                wall[name].append(time.perf_counter() - started)
                processor[name].append(time.process_time() - used)
    result = {}
    for name in rows:
        result[name] = {
            "wall_seconds": round(statistics.median(wall[name]), 2),
            "processor_seconds": round(statistics.median(processor[name]), 2),
            "wall_ratio": round(
                statistics.median(wall[name]) / statistics.median(wall["bare loop"]), 3
            ),
            "processor_ratio": round(
                statistics.median(processor[name]) / statistics.median(processor["bare loop"]), 3
            ),
        }
    setting = f"{options.name}, {len(paths)} files"
    write_records(options.out, [
        line for name, row in result.items() for line in (
            record(f"{name}, processor seconds", setting, row["processor_seconds"], "s"),
            record(f"{name} over a bare loop", setting, row["processor_ratio"], "x"),
        )
    ])  # fmt: skip
    if options.json:
        print(json.dumps({"files": len(paths), "workers": options.workers, "rows": result}))
        return
    print(f"{len(paths)} files, {options.workers} threads, median of {options.repeats}")
    for name, row in result.items():
        print(
            f"{name:<13} {row['wall_seconds']:7.2f} s wall ({row['wall_ratio']:.2f} x)  "
            f"{row['processor_seconds']:7.2f} s processor ({row['processor_ratio']:.2f} x)"
        )


if __name__ == "__main__":
    main()
