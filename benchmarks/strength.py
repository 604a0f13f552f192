"""How strong the attacks are beside those of other libraries, and what they cost.

    python benchmarks/strength.py --out OUT --data tess=STORE:HEADS --data ravdess=STORE:HEADS \\
        [--heads cnn bilstm transformer] [--utterances 48] [--attacks NAME ...]

STORE is a feature store, HEADS the folder that `heads.py` filled. In one process every attack
meets the same victims, utterances and budgets. Finished cells are kept in OUT/cells.jsonl and not
computed again; OUT also gets strength.parquet, strength.json and strength.md. Attacks of other
libraries need the environment of `peers/setup.py`; without it they are left out, with the reason.

A cell has the attack success rate over utterances that the victim recognises, with its Wilson
interval, which utterances are misclassified, forward and backward passes an utterance, and CPU
seconds (one thread). With `--device cuda` victims and batches are on the GPU; seconds are then the
CPU time of the process that drives it, and success is comparable, but seconds are not.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

import sigma_ser as ss
from measuring import environment, record, write_records
from sigma_ser.core.audit import audit
from sigma_ser.core.files import whole_file, write_json
from sigma_ser.execution.devices import moved, ready
from sigma_ser.statistics.proportion import wilson_interval

CELLS = [(0.5, 0.01), (0.5, 0.02), (1.0, 0.01), (1.0, 0.02)]


@dataclass(frozen=True)
class Entry:
    """One row of the table.

    `make` gives the attack; `minimum`: a minimum-norm attack of another library, run once for
    each epsilon and read at every `k`.
    """

    name: str
    make: Callable[[], Any]
    ours: bool
    minimum: bool = False
    form: str = ""


def ours(name: str, **settings: Any) -> Entry:
    """An attack of this library."""
    shown = ", ".join(f"{key}={value}" for key, value in settings.items())
    return Entry(
        f"{name}({shown})" if shown else name, lambda: ss.make_attack(name, **settings), True
    )


def peer(name: str, form: str = "cut to k", *, minimum: bool = False, **settings: Any) -> Entry:
    """An attack of another library, with its own code."""

    def make() -> Any:
        made = ss.make_attack(name, **settings)
        return ss.Sigma("gradient-margin", made) if form == "gradient mask" else made

    hidden = {"together", "cut"}
    shown = ", ".join(f"{key}={value}" for key, value in settings.items() if key not in hidden)
    return Entry(f"{name}({shown})", make, False, minimum, form)


# The most telling rows come first, so that a run that is stopped has them.
ENTRIES = [
    ours("dual-averaging"),
    ours("spgd"),
    peer("adv-lib:sigma_zero", minimum=True, num_steps=100, together=True),
    peer("torchattacks:PGDL2", "cut inside", steps=40, together=True, cut="inside"),
    ours("sigma-autoattack"),
    peer("foolbox:L0FMNAttack", minimum=True, steps=100, together=True),
    peer("torchattacks:PGD", "gradient mask", steps=40, alpha=0.05, together=True),
    ours("random"),
    ours("oneshot"),
    ours("reselect"),
    peer("foolbox:SparseL1DescentAttack", steps=100, together=True),
    peer("art:ProjectedGradientDescent", "gradient mask", max_iter=40, eps_step=0.05,
         together=True),
    ours("dual-averaging", steps=50),
    ours("sigma-zero"),
    ours("saif"),
    peer("adv-lib:pdpgd", minimum=True, norm=0, num_steps=100, together=True),
    # Sign steps drive every element to the bound, so that the cut has nothing to go by.
    peer("torchattacks:PGD", "cut inside", steps=40, alpha=0.05, together=True, cut="inside"),
    peer("foolbox:EADAttack", minimum=True, steps=100, binary_search_steps=1, initial_const=10.0,
         together=True),
    ours("pgd0"),
    peer("torchattacks:SparseFool", minimum=True, max_passes=300),
]  # fmt: skip


@dataclass(frozen=True)
class Question:
    """A victim and the utterances that it recognises."""

    corpus: str
    head: str
    victim: Any
    batch: ss.FeatureBatch
    labels: Tensor

    @property
    def key(self) -> str:
        """What determines it, apart from the budget."""
        return f"{self.corpus}/{self.head}/{self.victim.fingerprint}/{_digest(self.batch.ids)}"


def questions(
    data: list[str], heads: list[str], most: int, device: str = "cpu"
) -> Iterator[Question]:
    """The victims of all corpora, each with unseen utterances that it recognises."""
    for found in data:
        corpus, _, folders = found.partition("=")
        store_folder, _, head_folder = folders.partition(":")
        store = ss.FeatureStore(store_folder)
        unseen = json.loads((Path(head_folder) / "unseen.json").read_text("utf-8"))
        ids = unseen[:: max(1, len(unseen) // (2 * most))]
        batch, labels = store.batch(ids), store.labels(ids)
        for head in heads:
            victim = ss.load_victim(Path(head_folder) / head)
            with torch.no_grad():
                right = victim(batch.x, batch.lengths).argmax(1) == labels
            rows = right.nonzero()[:most, 0]
            chosen, place = batch.select(rows), ready(device)
            yield Question(
                corpus, head, moved(victim, place), chosen.to(place), labels[rows].to(place)
            )


def measure(entry: Entry, question: Question) -> Iterator[dict[str, Any]]:
    """The cells of one attack on one victim."""
    if not entry.minimum:
        for epsilon, sparsity in CELLS:
            budget = ss.Budget(sparsity=sparsity, epsilon=epsilon)
            yield _cell(question, epsilon, sparsity, *_timed(entry, question, budget))
        return
    for epsilon in sorted({epsilon for epsilon, _ in CELLS}):
        whole = ss.Budget(sparsity=1.0, epsilon=epsilon)
        result, seconds = _timed(entry, question, whole)
        read = [k for other, k in CELLS if other == epsilon]
        for sparsity in read:
            budget = ss.Budget(sparsity=sparsity, epsilon=epsilon)
            cut = _read(result, question, budget)
            # One run serves all budgets that it is read at, so they share its seconds.
            yield _cell(question, epsilon, sparsity, cut, seconds / len(read))


def _timed(entry: Entry, question: Question, budget: ss.Budget) -> tuple[ss.AttackResult, float]:
    attack, started = entry.make(), time.process_time()
    result = attack(question.victim, question.batch, question.labels, budget)
    return result, time.process_time() - started


def _read(result: ss.AttackResult, question: Question, budget: ss.Budget) -> ss.AttackResult:
    """A minimum-norm result under a budget: its `k` largest changes, checked again."""
    batch, victim = question.batch, question.victim
    delta = result.x_adv - batch.x
    moved = ss.topk_mask(delta / victim.scale, batch.lengths, budget)
    x_adv = torch.where(moved, result.x_adv, batch.x)
    audit(batch, x_adv, budget, victim.scale)
    with torch.no_grad():
        prediction = victim(x_adv, batch.lengths).argmax(1)
    return ss.AttackResult(
        x_adv, prediction != question.labels, prediction, result.steps, result.forwards + 1,
        result.backwards,
    )  # fmt: skip


def _cell(
    question: Question, epsilon: float, sparsity: float, result: ss.AttackResult, seconds: float
) -> dict[str, Any]:
    hits, trials = int(result.success.sum()), len(result.success)
    low, high = (float(end[0]) for end in wilson_interval(np.array([hits]), np.array([trials])))
    return {
        "corpus": question.corpus, "head": question.head, "epsilon": epsilon,
        "sparsity": sparsity, "utterances": trials, "successes": hits, "asr": hits / trials,
        "asr_low": low, "asr_high": high,
        "misclassified": [
            name
            for name, hit in zip(question.batch.ids, result.success.tolist(), strict=True)
            if hit
        ],
        "passes": float((result.forwards + result.backwards).double().mean()),
        "seconds": seconds, "seconds_per_success": seconds / hits if hits else None,
    }  # fmt: skip


def run(options: argparse.Namespace) -> list[dict[str, Any]]:
    """All cells that are asked for, those of earlier runs among them."""
    log = options.out / "cells.jsonl"
    log.parent.mkdir(parents=True, exist_ok=True)
    kept = [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []
    there = {cell["key"] for cell in kept}
    wanted = [
        entry
        for entry in ENTRIES
        if not options.attacks or any(asked_for(name, entry) for name in options.attacks)
    ]
    asked = list(questions(options.data, options.heads, options.utterances, options.device))
    chosen: set[str] = set()
    for entry in wanted:
        for question in asked:
            try:
                settings = repr(entry.make())
            except ss.SigmaError as refusal:
                print(f"left out: {entry.name}: {refusal}", flush=True)
                break
            key = _digest([question.key, settings, entry.form, str(CELLS), options.salt])
            chosen.add(key)
            if key in there:
                continue
            for cell in measure(entry, question):
                cell |= {"key": key, "attack": entry.name, "form": entry.form,
                         "ours": entry.ours, "settings": settings}  # fmt: skip
                kept.append(cell)
            with log.open("a") as lines:
                lines.writelines(json.dumps(cell) + "\n" for cell in kept if cell["key"] == key)
            rates = " ".join(f"{100 * c['asr']:3.0f}" for c in kept if c["key"] == key)
            print(f"{question.corpus:8s} {question.head:12s} {entry.name} {entry.form}: {rates}",
                  flush=True)  # fmt: skip
    return [cell for cell in kept if cell["key"] in chosen]


def asked_for(name: str, entry: Entry) -> bool:
    """Whether `--attacks` means this entry: its whole name, or a part of names where none is it."""
    whole = any(name == other.name for other in ENTRIES)
    return name == entry.name if whole else name in entry.name


def table(cells: list[dict[str, Any]]) -> Iterator[str]:
    """One table for each victim, in Markdown."""
    for corpus, head in dict.fromkeys((cell["corpus"], cell["head"]) for cell in cells):
        here = [cell for cell in cells if (cell["corpus"], cell["head"]) == (corpus, head)]
        yield f"\n### {corpus}, {head} head, {here[0]['utterances']} utterances\n"
        titles = [f"eps {e:g}, k {k:.0%}" for e, k in CELLS]
        yield "| attack | form | " + " | ".join(titles) + " | passes | s | s per success |"
        yield "|---|---|" + "--:|" * (len(CELLS) + 3)
        for name, form in dict.fromkeys((cell["attack"], cell["form"]) for cell in here):
            row = {
                (cell["epsilon"], cell["sparsity"]): cell
                for cell in here
                if (cell["attack"], cell["form"]) == (name, form)
            }
            rates = [
                f"{100 * row[c]['asr']:.0f} [{100 * row[c]['asr_low']:.0f}, "
                f"{100 * row[c]['asr_high']:.0f}]"
                for c in CELLS
            ]
            passes = " / ".join(f"{row[c]['passes']:.0f}" for c in CELLS)
            seconds = sum(row[c]["seconds"] for c in CELLS)
            hits = sum(row[c]["successes"] for c in CELLS)
            each = f"{seconds / hits:.2f}" if hits else "-"
            shown = f"**{name}**" if row[CELLS[0]]["ours"] else name
            yield f"| {shown} | {form} | {' | '.join(rates)} | {passes} | {seconds:.0f} | {each} |"


def records(cells: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Every success rate in per cent, and in each cell `dual-averaging` beside the peers.

    The best peer may be better by one standard error of its own rate;
    `spgd` counts as a peer, since it stands for the published Sparse-PGD.
    """
    for cell in cells:
        where = _where(cell)
        name = " ".join(filter(None, [cell["attack"], cell["form"]]))
        yield record(f"success, {name}", where, 100 * cell["asr"], "%", low=100 * cell["asr_low"],
                     high=100 * cell["asr_high"])  # fmt: skip
        yield record(f"passes, {name}", where, cell["passes"], "")
    for where in dict.fromkeys(map(_where, cells)):
        here = [cell for cell in cells if _where(cell) == where]
        named = {cell["attack"]: cell for cell in here if cell["ours"]}
        if not {"dual-averaging", "spgd"} <= named.keys():
            continue
        best = max(c["asr"] for c in here if not c["ours"] or c["attack"] == "spgd")
        error = (best * (1 - best) / here[0]["utterances"]) ** 0.5
        native = named["dual-averaging"]
        yield record("success, dual-averaging less the best peer", where,
                     100 * (native["asr"] - best), "points", at_least=-100 * error)  # fmt: skip
        yield record("passes, dual-averaging over spgd", where,
                     native["passes"] / named["spgd"]["passes"], "x", at_most=0.5)  # fmt: skip
        if "sigma-autoattack" in named:
            strongest = set(named["sigma-autoattack"]["misclassified"])
            others = {name for c in here for name in c["misclassified"]}
            yield record("utterances that another attack alone finds, not sigma-autoattack", where,
                         len(others - strongest), "", at_most=0)  # fmt: skip


def _where(cell: dict[str, Any]) -> str:
    return f"{cell['corpus']}, {cell['head']}, eps {cell['epsilon']:g}, k {cell['sparsity']:.0%}"


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(list(value)).encode()).hexdigest()[:16]


def main() -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--data", action="append", required=True, help="NAME=STORE:HEADS")
    parser.add_argument("--heads", nargs="+", default=["cnn", "bilstm", "transformer"])
    parser.add_argument("--utterances", type=int, default=48)
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument(
        "--attacks", nargs="+", help="only these, or those whose name holds one of these"
    )
    parser.add_argument("--salt", default="", help="another text measures everything again")
    parser.add_argument("--records", type=Path, help="also the figures as flat records, JSON")
    options = parser.parse_args()
    torch.set_num_threads(1)
    cells = run(options)
    write_records(options.records, list(records(cells)))
    with whole_file(options.out / "strength.parquet") as aside:
        pq.write_table(pa.Table.from_pylist(cells), aside)
    write_json(options.out / "strength.json", {"environment": environment(), "cells": cells})
    (options.out / "strength.md").write_text("\n".join(table(cells)) + "\n", "utf-8")
    print("\n".join(table(cells)))


if __name__ == "__main__":
    main()
