"""One flipped bit at random places of a run folder: are the rows the same after the next call?

    python benchmarks/bit_flips.py [--flips 200] [--seed 0]

A study of the embedded corpus is run once. For each flip a copy of its folder is taken, as it is or
without the results of the attacks (so that the next call reads features, victims, maps, floors and
universal maps), one bit of one file is changed, and the study is run again in the copy. The result
is one of these:

- `equal`: the file was not needed, or was written anew; all rows and replays are the same,
- `repaired`: the file was named, counted and made again; all rows and replays are the same,
- `refused`: the call ended with one sentence that names the file,
- `different`, `traceback`, `unnamed`: faults.

It ends with exit status 1 if there is a fault. It also prints the CPU time to check 100 MB, and the
share of the time of the run that is spent on the digests of all files.
"""

from __future__ import annotations

import argparse
import collections
import json
import random
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import polars as pl
from polars.testing import assert_frame_equal

import scale
import sigma_ser as ss
from sigma_ser.core.files import file_digest
from sigma_ser.core.rows import TIMING_COLUMNS
from sigma_ser.report import writer
from sigma_ser.runs.layout import RunLayout

FAULTS = ("different", "traceback", "unnamed")
# What a call writes after the maps and floors.
RESULTS = ("attacks", "replays", "rows.parquet", "replays.parquet", "rows.json")


def small_study(folder: Path) -> dict[str, Any]:
    """A study with every kind of artefact: two victims, own and universal masks, replays."""
    return scale.study(
        scale.manifest(folder, scale.demo_recordings(84)),
        victims=[{"head": "linear", "epochs": 3, "seeds": [0, 1]}],
        attacks=[{"name": "oneshot", "explainers": ["gradient"],
                  "mask_sources": ["own", "universal"]}],
        consistency={"explainer": "gradient"},
        evaluation={"batch_size": 4, "utterances": 6, "exemplars": 1, "replay": True},
    )  # fmt: skip


def flipped(folder: Path, rng: random.Random) -> Path:
    """Change one bit of a random file; returns the file."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.stat().st_size)
    path = rng.choice(files)
    data = bytearray(path.read_bytes())
    data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    path.write_bytes(data)
    return path


def outcome(values: dict[str, Any], whole: ss.Study, folder: Path, path: Path) -> str:
    """Run the study in a folder with a changed file."""
    name = path.relative_to(folder).as_posix()
    try:
        again = ss.run(values, out=folder)
    except ss.SigmaError as fault:
        return "refused" if path.name in str(fault) else "unnamed"
    except Exception as fault:
        print(f"{name}: {type(fault).__name__}: {fault}", file=sys.stderr)
        return "traceback"
    if not same(again, whole):
        return "different"
    repaired = [one["file"] for one in again.repairs]
    if not repaired:
        return "equal"
    # With a changed digest, the file of this digest is made again.
    named = name in repaired or name.startswith("digests/")
    return "repaired" if named else "unnamed"


def same(one: ss.Study, other: ss.Study) -> bool:
    """Whether all rows but their seconds, and all replays, are the same."""
    assert one.replays is not None
    assert other.replays is not None
    pairs = [(one.rows.drop(TIMING_COLUMNS), other.rows.drop(TIMING_COLUMNS)),
             (one.replays, other.replays)]  # fmt: skip
    return all(_equal(*pair) for pair in pairs)


def _equal(one: pl.DataFrame, other: pl.DataFrame) -> bool:
    try:
        assert_frame_equal(one, other, check_exact=True)
    except AssertionError:
        return False
    return True


def digest_seconds(paths: list[Path]) -> float:
    """CPU seconds to check some files, after they were read once."""
    for path in paths:
        file_digest(path)
    started = time.process_time()
    for path in paths:
        file_digest(path)
    return time.process_time() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--flips", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    rng = random.Random(options.seed)
    # The figures take most of the time of a small study, and hold nothing but the rows.
    writer.write_figures = lambda *given: None
    counts: collections.Counter[str] = collections.Counter()
    with tempfile.TemporaryDirectory() as scratch:
        values = small_study(Path(scratch))
        large = Path(scratch) / "large"
        large.write_bytes(random.Random(0).randbytes(100_000_000))
        check = digest_seconds([large])
        started = time.process_time()
        whole = ss.run(values, out=Path(scratch) / "whole")
        seconds = time.process_time() - started
        # Each file is digested when it is written and when it is first read.
        share = 2 * digest_seconds(list(RunLayout(whole.folder).artefacts())) / seconds
        for number in range(options.flips):
            folder = Path(shutil.copytree(whole.folder, Path(scratch) / f"copy-{number}"))
            if number % 2:
                for name in RESULTS:
                    (shutil.rmtree if (folder / name).is_dir() else Path.unlink)(folder / name)
            path = flipped(folder, rng)
            result = outcome(values, whole, folder, path)
            counts[result] += 1
            if result in FAULTS:
                print(f"{result}: {path.relative_to(folder)}", file=sys.stderr)
            shutil.rmtree(folder)
    print(json.dumps({"flips": options.flips, **counts, "seconds for 100 MB": round(check, 3),
                      "share of the run": round(share, 5)}))  # fmt: skip
    sys.exit(any(counts[one] for one in FAULTS))


if __name__ == "__main__":
    main()
