"""SIGKILL, ten times at random moments, of a run or of one of its workers: are the rows the same?

    python benchmarks/kills.py [--kills 10] [--seed 0] [--folder FOLDER]

A study of the embedded corpus is run undisturbed, and once more from the same features and victims
in a folder where the run itself or one of its worker processes is killed again and again, each time
after a random number of further files. At the end its rows must equal the others bit for bit,
seconds aside, and no file that was finished before a kill may have been written again.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import random
import shutil
import signal
import tempfile
import time
from pathlib import Path
from typing import Any

from polars.testing import assert_frame_equal

import scale
import sigma_ser as ss
from sigma_ser.core.rows import TIMING_COLUMNS

ROOMS = ("saliency", "attacks")


def written(folder: Path) -> dict[Path, int]:
    """Finished files of the steps, with the time when each was written."""
    return {
        path: path.stat().st_mtime_ns
        for room in ROOMS
        for path in (folder / room).rglob("*")
        if path.is_file() and not any(one.startswith(".") for one in path.parts)
    }


def workers_of(pid: int) -> list[int]:
    """Processes that work for a run: those below the fork server."""
    found = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        for child in map(int, (task / "children").read_text().split()):
            below = workers_of(child)
            found += below or [child]
    return found


def kill_one(pid: int, rng: random.Random) -> str:
    """Kill the run, or a worker of it; says which."""
    try:
        workers = [one for one in workers_of(pid) if b"forkserver" in command(one)]
    except OSError:
        workers = []
    if workers and rng.random() < 0.5:
        os.kill(rng.choice(workers), signal.SIGKILL)
        return "worker"
    os.kill(pid, signal.SIGKILL)
    return "run"


def command(pid: int) -> bytes:
    """The command line of a process."""
    return Path(f"/proc/{pid}/cmdline").read_bytes()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=Path, default=None)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        prove(options.folder or Path(scratch), options.kills, random.Random(options.seed))


def prove(folder: Path, kills: int, rng: random.Random) -> None:
    values: dict[str, Any] = scale.study(
        scale.manifest(folder, scale.demo_recordings(84)),
        budgets={"sparsity": [0.002 * (1 + n) for n in range(2 * kills)], "epsilon": [0.5]},
        attacks=[{"name": "oneshot", "explainers": ["gradient"]}],
        evaluation={"batch_size": 4, "utterances": 8, "exemplars": 0},
        executor={"name": "processes", "workers": 2},
    )
    calm = ss.run(values | {"executor": {"name": "inline"}}, out=folder / "calm")
    shutil.copytree(folder / "calm", folder / "killed")
    for name in (*ROOMS, "report"):
        shutil.rmtree(folder / "killed" / name)
    (folder / "killed" / "rows.json").unlink()
    (folder / "killed" / "rows.parquet").unlink()

    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["sigma_ser.study.run"])
    killed: list[str] = []
    while len(killed) < kills:
        kept = written(folder / "killed")
        process = context.Process(target=ss.run, args=(values,), kwargs={"out": folder / "killed"})
        process.start()
        assert process.pid is not None
        while process.is_alive() and len(killed) < kills:
            wanted = len(written(folder / "killed")) + rng.randint(1, 4)
            while len(written(folder / "killed")) < wanted and process.is_alive():
                time.sleep(0.005)
            time.sleep(rng.random() * 0.05)
            if not process.is_alive():
                raise SystemExit(f"the run ended after {len(killed)} kills; take another --seed")
            killed.append(kill_one(process.pid, rng))
            if killed[-1] == "run":
                process.join()
        process.kill()
        process.join()
        after = written(folder / "killed")
        assert {path: after[path] for path in kept} == kept
    kept = written(folder / "killed")
    again = ss.run(values, out=folder / "killed")
    now = written(folder / "killed")
    assert {path: now[path] for path in kept} == kept
    assert again.failures == []
    assert_frame_equal(again.rows.drop(TIMING_COLUMNS), calm.rows.drop(TIMING_COLUMNS))
    unfinished = [path for path in (folder / "killed").rglob(".*") if path.name != ".lock"]
    print(json.dumps({"kills": killed, "kept": len(kept), "files": len(now), "rows": len(calm.rows),
                      "left half-written": len(unfinished), "equal": True}))  # fmt: skip


if __name__ == "__main__":
    main()
