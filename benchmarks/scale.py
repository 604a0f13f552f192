"""What a study costs besides its attacks: planner, memory, more workers.

    python benchmarks/scale.py planner [--cells 1000]
    python benchmarks/scale.py memory [--times 20] [--recordings 672] [--tess ROOT]
    python benchmarks/scale.py workers [--recordings 672]
    python benchmarks/scale.py plan [--utterances 1000000] [--cells 10000]

`planner` finishes a study of many small cells and times a restart, with report and without change.
`memory` runs a cheap attack over the demo corpus once and over many copies of it under new ids, and
prints the peak anonymous memory (RssAnon of the run and of all its workers, every 20 ms) and the
CPU time per attacked utterance; `--tess` takes the recordings of that folder instead. `workers`
compares one worker with two on the same attacks. `plan` plans a study of a corpus without
recordings, all of whose utterances are attacked, and prints its time and the peak resident memory
of the process. Each step is a process of its own.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sigma_ser.corpora.corpus import load_corpus
from sigma_ser.demo import corpus_path

RUN = """
import json, resource, sys, time
import sigma_ser as ss
values, out = json.loads(sys.argv[1]), sys.argv[2]
started, cpu = time.perf_counter(), time.process_time()
class Quiet:
    began = {}
    def stage(self, name, total, cached=0): self.began[name] = time.perf_counter() - started
    def advance(self, steps=1): pass
    def note(self, text): print(text, file=sys.stderr)
study = ss.run(values, out=out, progress=Quiet())
children = resource.getrusage(resource.RUSAGE_CHILDREN)
print(json.dumps({
    "wall": time.perf_counter() - started,
    "cpu": time.process_time() - cpu + children.ru_utime + children.ru_stime,
    "rows": study.rows.height,
    "began": Quiet.began,
}))
"""


PLAN = """
import json, resource, sys, time
from pathlib import Path
from sigma_ser.core.utterance import Utterance
from sigma_ser.corpora.corpus import Corpus
from sigma_ser.corpora.folds import Fold
from sigma_ser.corpora.reader import Card
from sigma_ser.study.loading import parse_study
from sigma_ser.study.plan import PlanInput, make_plan
from sigma_ser.study.steps import Setting
count, labels = int(sys.argv[2]), ("angry", "happy", "neutral", "sad")
corpus = Corpus("simulated", (
    Utterance(f"u{n:07d}", Path(f"/none/{n}.wav"), labels[n % 4], sample_rate=16000,
              num_samples=16000 + n * 7919 % 64000) for n in range(count)
), labels, Card("simulated"))
fold = Fold("all", (), (), corpus.utterances.column("id"))
setting = Setting("simulated", "all", "demo", "0", "features", Path("/none/features"), 0.02)
started = time.perf_counter(), time.process_time()
plan = make_plan(parse_study(json.loads(sys.argv[1])).config,
                 [PlanInput(setting, corpus, [fold])])
plan.needs()
print(json.dumps({
    "wall": time.perf_counter() - started[0],
    "cpu": time.process_time() - started[1],
    "cells": len(plan.attacks),
    "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
}))
"""


def study(root: Path, **changes: Any) -> dict[str, Any]:
    """A study of a linear head and one cheap attack."""
    return {
        "name": "scale",
        "corpus": {"name": "manifest", "root": str(root), "protocol": "speaker-kfold",
                   "protocol_settings": {"folds": 3}, "folds": [0]},
        "encoder": {"name": "demo"},
        "victims": [{"head": "linear", "epochs": 3}],
        "consistency": {"explainer": None},
        "evaluation": {"batch_size": 32, "exemplars": 0},
        "attacks": [{"name": "oneshot"}],
        "executor": {"name": "inline"},
    } | changes  # fmt: skip


@dataclass(frozen=True)
class Recording:
    """A line of a manifest."""

    id: str
    path: Path
    label: str
    speaker: str
    text: str


def demo_recordings(limit: int) -> list[Recording]:
    """About `limit` recordings of the demo corpus, of all voices and emotions."""
    with (corpus_path() / "index.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    return [
        Recording(row["id"], (corpus_path() / row["path"]).resolve(), row["label"],
                  row["speaker"], row["text_id"])
        for row in rows[:: max(1, len(rows) // limit)]
    ]  # fmt: skip


def tess_recordings(root: Path) -> list[Recording]:
    """All recordings of TESS, each speaker in three parts, which count as speakers."""
    return [
        Recording(one.id, one.path, one.label, f"{one.speaker}-{number % 3}", one.text_id)
        for number, one in enumerate(load_corpus("tess", root=root).utterances)
    ]


def manifest(folder: Path, recordings: list[Recording], copies: int = 1) -> Path:
    """The recordings, so many times under new ids."""
    path = folder / f"{copies}.csv"
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["id", "path", "label", "speaker", "text"])
        for copy in range(copies):
            for one in recordings:
                sound = one.path
                if copy:
                    # Second copies of a sound under one path would be dropped.
                    sound = folder / "sounds" / f"{copy}-{one.id}{one.path.suffix}"
                    sound.parent.mkdir(exist_ok=True)
                    shutil.copyfile(one.path, sound)
                writer.writerow([f"{copy}-{one.id}", sound, one.label, one.speaker, one.text])
    return path


def timed(values: dict[str, Any], out: Path) -> dict[str, Any]:
    """Run a study in a process of its own; adds the peak of its anonymous memory in MB."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    process = subprocess.Popen([sys.executable, "-c", RUN, json.dumps(values), str(out)],
                               stdout=subprocess.PIPE, text=True, env=environment)  # fmt: skip
    peak = before = 0
    while process.poll() is None:
        now = anonymous(process.pid)
        # A program that is being started counts its parent's pages as its own for a moment.
        peak, before = max(peak, min(now, before)), now
        time.sleep(0.02)
    assert process.stdout is not None
    measured: dict[str, Any] = json.loads(process.stdout.read().splitlines()[-1])
    return measured | {"peak_mb": peak / 1024}


def anonymous(pid: int) -> int:
    """RssAnon in KiB of a process and all its descendants."""
    total = 0
    try:
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("RssAnon:"):
                total += int(line.split()[1])
        for task in Path(f"/proc/{pid}/task").iterdir():
            for child in (task / "children").read_text().split():
                total += anonymous(int(child))
    except OSError:
        pass
    return total


def planner(folder: Path, options: argparse.Namespace) -> None:
    sparsity = [round(0.0005 * (1 + n), 6) for n in range(max(1, options.cells // 4))]
    values = study(
        manifest(folder, demo_recordings(84)),
        budgets={"sparsity": sparsity, "epsilon": [0.5]},
        victims=[{"head": "linear", "epochs": 3}, {"head": "mlp", "epochs": 3}],
        attacks=[{"name": "oneshot"}, {"name": "random"}],
        evaluation={"batch_size": 8, "utterances": 8, "exemplars": 1},
    )
    first = timed(values, folder / "run")
    again = timed(values, folder / "run")
    (folder / "run" / "report" / "written.json").unlink()
    written = timed(values, folder / "run")
    (folder / "run" / "rows.json").unlink()
    collected = timed(values, folder / "run")
    print(f"{4 * len(sparsity)} cells, {first['rows']} rows: the run {first['wall']:.1f} s")
    for name, one in (("restart", again), ("restart that writes the report", written),
                      ("restart that collects the rows again, too", collected)):  # fmt: skip
        print(f"{name}: {one['cpu']:.2f} s CPU, {one['wall']:.2f} s wall; stages began at "
              + ", ".join(f"{k} {v:.2f}" for k, v in one["began"].items()))  # fmt: skip


def memory(folder: Path, options: argparse.Namespace) -> None:
    recordings = (
        tess_recordings(options.tess) if options.tess else demo_recordings(options.recordings)
    )
    for copies in (1, options.times):
        values = study(manifest(folder, recordings, copies))
        features = timed(values | {"attacks": [{"name": "random"}]}, folder / f"run-{copies}")
        measured = timed(values, folder / f"run-{copies}")
        print(f"{copies} x: {measured['rows']} utterances attacked; "
              f"peak RssAnon {measured['peak_mb']:.0f} MB "
              f"(with extraction and training {features['peak_mb']:.0f} MB), "
              f"{1e3 * measured['cpu'] / measured['rows']:.2f} ms CPU an utterance, "
              f"{measured['cpu']:.1f} s CPU in all")  # fmt: skip


def workers(folder: Path, options: argparse.Namespace) -> None:
    root = manifest(folder, demo_recordings(options.recordings))
    attacks = [{"name": "dual-averaging", "steps": 40}, {"name": "reselect", "steps": 40}]
    budgets = {"sparsity": [0.0005, 0.001, 0.002, 0.004], "epsilon": [0.05]}
    victims = [{"head": "bilstm", "epochs": 1}]
    values = study(root, victims=victims, budgets=budgets, attacks=[{"name": "random"}])
    timed(values, folder / "run")
    for count in (1, 2, 1, 2):
        here = folder / f"run-{count}-{time.monotonic_ns()}"
        shutil.copytree(folder / "run", here)
        executor = {"name": "processes", "workers": count}
        measured = timed(values | {"attacks": attacks, "executor": executor}, here)
        span = measured["began"]["report"] - measured["began"]["attacks"]
        print(f"{count} workers: attacks {span:.1f} s wall, {measured['cpu']:.1f} s CPU in all")


def plan(folder: Path, options: argparse.Namespace) -> None:
    # Two attacks, native and inside one mask, on two victims: eight cells for each budget.
    sparsity = [round(0.0001 * (1 + n), 6) for n in range(max(1, options.cells // 8))]
    values = study(
        folder,
        budgets={"sparsity": sparsity, "epsilon": [0.5]},
        victims=[{"head": "linear"}, {"head": "mlp"}],
        attacks=[{"name": name, "explainers": ["gradient"]} for name in ("oneshot", "random")],
        consistency={"explainer": "gradient"},
    )
    command = [sys.executable, "-c", PLAN, json.dumps(values), str(options.utterances)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    measured = json.loads(done.stdout)
    print(f"{options.utterances} utterances, {measured['cells']} cells: planned in "
          f"{measured['cpu']:.1f} s CPU, {measured['wall']:.1f} s wall; "
          f"peak {measured['peak_mb']:.0f} MB with the corpus and torch")  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=("planner", "memory", "workers", "plan"))
    parser.add_argument("--cells", type=int, default=None, help="of planner and plan")
    parser.add_argument("--utterances", type=int, default=1_000_000, help="of plan")
    parser.add_argument("--times", type=int, default=20)
    parser.add_argument("--recordings", type=int, default=672, help="of memory and workers")
    parser.add_argument("--tess", type=Path, help="memory: the recordings of this folder")
    parser.add_argument("--folder", type=Path, default=None)
    options = parser.parse_args()
    options.cells = options.cells or (10_000 if options.what == "plan" else 1000)
    with tempfile.TemporaryDirectory() as scratch:
        {"planner": planner, "memory": memory, "workers": workers, "plan": plan}[options.what](
            options.folder or Path(scratch), options
        )


if __name__ == "__main__":
    main()
