"""Audits of five models whose right verdict is known, and every figure computed again.

    python benchmarks/planted_models.py --work FOLDER

The models are a linear head whose certificate meets the criteria; an attention head trained without
regularisation; the linear head behind rounded logits; a head with random weights; and the linear
head on recordings of its training under other names. Each audit is the command `sigma-ser audit` in
a process of its own. The figures of `audit.json` are computed again from `rows.parquet` and
`certificates.parquet` without sigma-ser.
"""

from __future__ import annotations

import argparse
import csv
import json
import math
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import polars as pl

import sigma_ser as ss

CRITERIA = """\
utterances = 40
clean_uar = 0.35

[[attack_success]]
sparsity = 0.01
epsilon = 0.5
at_most = 0.2

[[certified]]
sparsity = 0.01
epsilon = 0.5
at_least = 0.7

[[corrupted]]
corruption = "white-noise"
snr = 30
at_most = 0.3
"""

BUDGET = ("surface", "granularity", "sparsity", "epsilon", "budget_snr")

MODULE = """\
import os, torch
import sigma_ser as ss

class Rounded(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.victim = ss.load_victim(os.environ["PLANTED_VICTIM"]).module
        self.eval()

    def forward(self, x, lengths):
        return (self.victim(x, lengths) / 0.25).round() * 0.25

class Chance(torch.nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(3)
        self.victim = ss.heads.Linear(256, 7)
        self.eval()

    def forward(self, x, lengths):
        return self.victim(x, lengths)
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--utterances", type=int, default=168)
    parser.add_argument("--surface", default="features", help="as in sigma-ser audit")
    options = parser.parse_args()
    work = options.work
    work.mkdir(parents=True, exist_ok=True)
    (work / "planted.py").write_text(MODULE)
    (work / "criteria.toml").write_text(CRITERIA)
    corpus = ss.load_corpus("demo")
    store = ss.extract(corpus, ss.load_encoder("demo"), out=work / "features")
    fold = ss.make_folds(corpus, "demo-voices")[0]
    linear = ss.train(store, fold, head="linear").save(work / "linear")
    fragile = ss.train(
        store, fold, head="attention", weight_decay=0.0, mixup=0.0, noise=0.0, label_smoothing=0.0
    ).save(work / "fragile")
    renamed = renamed_recordings(work / "renamed.csv", corpus, fold.train)
    os.environ |= {"PLANTED_VICTIM": str(linear), "PYTHONPATH": os.pathsep.join(
        [str(work), os.environ.get("PYTHONPATH", "")]), "OMP_NUM_THREADS": "1"}  # fmt: skip
    foreign = ["--encoder", "demo", "--set", "corpus.protocol=demo-voices",
               "--set", "corpus.protocol_settings={}"]  # fmt: skip
    names = ",".join(store.class_names)
    cases = {
        "robust": ([str(linear), "demo"], "pass", 0, "meets all"),
        "fragile": ([str(fragile), "demo"], "fail", 3, "does not meet"),
        "masked": (["planted:Rounded", "demo", *foreign], "inconclusive", 3, "Gradients of"),
        "chance": (["planted:Chance", "demo", *foreign], "fail", 3, "no better than chance"),
        "leaking": ([str(linear), str(renamed)], "inconclusive", 3, "known from the training"),
    }
    print(f"classes: {names}")
    for name, (arguments, verdict, status, words) in cases.items():
        started = time.perf_counter()
        surface = ["--surface", options.surface]
        done, record = audit(work, name, [*arguments, *surface], options.utterances)
        sentence = done["summary"]
        problems = recomputed(work / name, record)
        right = (record["verdict"], done["status"]) == (verdict, status) and words in sentence
        outcome = "right" if right and not problems else "WRONG"
        seconds = time.perf_counter() - started
        print(f"{name}: {outcome}; {record['verdict']}, exit status {done['status']}, ", end="")
        print(f"{seconds:.0f} s; {sentence[:160]!r}")
        for line in record["criteria"]:
            interval = f"{line['measured']} [{line['low']}, {line['high']}], n = {line['n']}"
            print(f"  {line['result']:<13}{line['name']}: {interval}; {line['reason']}")
        for problem in problems:
            print("  figure differs:", problem)


def renamed_recordings(path: Path, corpus: ss.Corpus, ids: tuple[str, ...]) -> Path:
    """A manifest of recordings under new names."""
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["id", "path", "label", "speaker"])
        for name in ids:
            one = corpus[name]
            writer.writerow([f"new-{name}", one.path, one.label, one.speaker])
    return path


def audit(work: Path, name: str, arguments: list[str], utterances: int) -> tuple[Any, Any]:
    """Run the command; its summary and exit status, and the record."""
    out = work / name
    command = [sys.executable, "-m", "sigma_ser", "audit", *arguments, "--out", str(out), "--json",
               "--criteria", str(work / "criteria.toml"), "--utterances", str(utterances),
               "--set", "evaluation.exemplars=0"]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if not done.stdout:
        raise SystemExit(f"{name}: {done.stderr[-2000:]}")
    printed = json.loads(done.stdout)
    record = json.loads((out / "audit.json").read_text("utf-8"))
    return {"summary": printed["summary"], "status": done.returncode}, record


def recomputed(folder: Path, record: dict[str, Any]) -> list[str]:
    """Figures of a record that differ from the files of the run."""
    table = pl.read_parquet(folder / "rows.parquet")
    # On the waveform the file decides, and on features there is none.
    table = table.with_columns(
        pl.coalesce("round_trip_correct", "correct_before").alias("correct_before"),
        pl.coalesce("round_trip_success", "success").alias("success"),
    ).filter("correct_before")
    natural = table.filter(pl.col("granularity").is_null())
    rows = table.filter(
        pl.col("granularity").is_not_null(), pl.col("attack") != "random",
        pl.col("explainer").fill_null("") != "random",
    )  # fmt: skip
    problems = corrupted(natural, record)
    for line in record["criteria"]:
        if line["kind"] == "corrupted":
            noise = [pl.col("attack") == "white-noise", pl.col("budget_snr") == 30]
            here = natural.filter(noise)
            problems += differences(line, int(here["success"].sum()), len(here))
        if line["kind"] == "attack_success":
            on_features = pl.col("surface") == "features"
            here = rows.filter(on_features, pl.col("sparsity") == 0.01, pl.col("epsilon") == 0.5)
            fooled = here.group_by("utterance").agg(pl.col("success").any())["success"]
            problems += differences(line, int(fooled.sum()), len(fooled))
        if line["kind"] == "certified" and line["measured"] is not None:
            bounds = pl.read_parquet(folder / "certificates.parquet").filter("correct", "proven")
            problems += differences(line, int(bounds["certified"].sum()), len(bounds))
    for line in record["attacks"]:
        here = rows.filter([pl.col(name).eq_missing(pl.lit(line[name])) for name in BUDGET])
        fooled = here.group_by("utterance").agg(pl.col("success").any())["success"]
        named = {
            "name": f"attacks at {[line[name] for name in BUDGET]}", "n": line["utterances"],
            "measured": line["worst_case_asr"], "low": line["worst_case_asr_low"],
            "high": line["worst_case_asr_high"],
        }  # fmt: skip
        problems += differences(named, int(fooled.sum()), len(fooled))
    for group in record["groups"]:
        same = [pl.col(name).eq_missing(pl.lit(group[name])) for name in BUDGET]
        here = rows.filter(pl.col(group["group"]) == group["value"], *same)
        fooled = here.group_by("utterance").agg(pl.col("success").any())["success"]
        line = {"name": f"group {group['value']}", "measured": group["success"], **group}
        problems += differences(line, int(fooled.sum()), len(fooled))
    return problems


def corrupted(natural: pl.DataFrame, record: dict[str, Any]) -> list[str]:
    """Figures of natural corruptions that differ from the rows."""
    problems = []
    for line in record["corruptions"]:
        here = natural.filter(
            pl.col("attack") == line["corruption"],
            pl.col("attack_settings") == line["settings"],
            pl.col("budget_snr").eq_missing(pl.lit(line["snr"])),
        )
        named = {**line, "name": line["settings"], "measured": line["rate"]}
        problems += differences(named, int(here["success"].sum()), len(here))
    found = len(natural.select("attack_settings").unique())
    if found != len(record["corruptions"]):
        problems.append(f"{len(record['corruptions'])} corruptions in the record, {found} in rows")
    every = natural.group_by("utterance").agg(pl.col("success").any())["success"]
    if record["wrong_anyway"] is not None:
        named = {**record["wrong_anyway"], "name": "at least one corruption"}
        named["measured"] = named["rate"]
        problems += differences(named, int(every.sum()), len(every))
    return problems


def differences(line: dict[str, Any], hits: int, trials: int) -> list[str]:
    """Compare a rate and its Wilson interval with a count."""
    if not trials:
        return [] if line["measured"] is None else [line["name"]]
    z, p = 1.959963984540054, hits / trials
    centre = (p + z * z / 2 / trials) / (1 + z * z / trials)
    half = z * math.sqrt(p * (1 - p) / trials + z * z / 4 / trials**2) / (1 + z * z / trials)
    wanted = {"measured": p, "low": max(0.0, centre - half), "high": min(1.0, centre + half),
              "n": trials}  # fmt: skip
    return [
        f"{line['name']}: {name} {line[name]} against {value}"
        for name, value in wanted.items()
        if abs(line[name] - value) > 1e-9
    ]


if __name__ == "__main__":
    main()
