"""Success after 2, 5, 10, 20, 50 and 100 gradients, beside other attacks and libraries.

    python benchmarks/anytime.py --out OUT --data tess=STORE:HEADS [--heads cnn bilstm transformer]
        [--utterances 48] [--device cuda] [--records FILE.json]

As `strength.py`, which also explains the arguments. Every attack runs anew for each number of
gradients, with its schedule set for it. `dual-averaging` uses the cross-entropy alone for up to
five, both of its losses for up to twenty, and a second round beyond. OUT gets cells.jsonl and one
plot for each victim.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

import sigma_ser as ss
from measuring import record, write_records
from strength import CELLS, Entry, measure, ours, peer, questions

GRADIENTS = (2, 5, 10, 20, 50, 100)
_COLOURS = ("#7b5cd6", "#c2571a", "#1f7a5c", "#b02a5b", "#3d6fb4", "#8a6d1d")
OURS = "dual-averaging"


def entries(gradients: int) -> Iterator[tuple[str, Entry]]:
    """Each attack with settings for a number of gradients, under the name of its curve."""
    losses = ("cross-entropy",) if gradients <= 5 else ("cross-entropy", "margin")
    rounds = 1 if gradients <= 20 else 2
    steps = gradients // (len(losses) * rounds)
    yield OURS, ours(OURS, steps=steps, losses=losses, rounds=rounds)
    yield "Sparse-PGD", ours("spgd", steps=gradients)
    yield "PGD0", ours("pgd0", steps=gradients, restarts=0)
    yield "SAIF", ours("saif", steps=gradients)
    yield (
        "sigma-zero (adv-lib)",
        peer("adv-lib:sigma_zero", minimum=True, num_steps=gradients, together=True),
    )
    yield (
        "SparseL1Descent (foolbox)",
        peer("foolbox:SparseL1DescentAttack", steps=gradients, together=True),
    )
    yield (
        "PGDL2 (torchattacks)",
        peer("torchattacks:PGDL2", "cut inside", steps=gradients, together=True, cut="inside"),
    )


def run(options: argparse.Namespace) -> list[dict[str, Any]]:
    """All cells, those of earlier runs among them."""
    log = options.out / "cells.jsonl"
    log.parent.mkdir(parents=True, exist_ok=True)
    cells = [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []
    there = {(cell["corpus"], cell["head"], cell["curve"], cell["gradients"]) for cell in cells}
    for question in questions(options.data, options.heads, options.utterances, options.device):
        for gradients in GRADIENTS:
            for curve, entry in entries(gradients):
                wanted = not options.curves or any(one in curve for one in options.curves)
                if not wanted or (question.corpus, question.head, curve, gradients) in there:
                    continue
                try:
                    found = list(measure(entry, question))
                except ss.SigmaError as refusal:
                    print(f"left out: {entry.name}: {refusal}", flush=True)
                    continue
                new = [cell | {"curve": curve, "gradients": gradients} for cell in found]
                with log.open("a") as lines:
                    lines.writelines(json.dumps(cell) + "\n" for cell in new)
                cells += new
        print(f"{question.corpus}, {question.head}: done", flush=True)
    return cells


def records(cells: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """In each cell and for each number of gradients, ours less the best other attack."""
    for where in dict.fromkeys(_place(cell) for cell in cells):
        for gradients in GRADIENTS:
            here = {
                cell["curve"]: cell
                for cell in cells
                if _place(cell) == where and cell["gradients"] == gradients
            }
            mine = here.pop(OURS)
            best = max(here.values(), key=lambda cell: float(cell["asr"]))
            error = (best["asr"] * (1 - best["asr"]) / best["utterances"]) ** 0.5
            yield record(
                f"success after {gradients} gradients, {OURS} less {best['curve']}", where,
                100 * (mine["asr"] - best["asr"]), "points", at_least=-100 * error,
            )  # fmt: skip


def _place(cell: dict[str, Any]) -> str:
    where = f"{cell['corpus']}, {cell['head']}"
    return f"{where}, eps {cell['epsilon']:g}, k {cell['sparsity']:.0%}"


def plot(cells: list[dict[str, Any]], path: Path) -> None:
    """The curves of one victim, one panel for each budget."""
    import matplotlib.pyplot as plt

    figure, panels = plt.subplots(2, 2, figsize=(9, 6.4), sharex=True, sharey=True)
    curves = [name for name in dict.fromkeys(cell["curve"] for cell in cells) if name != OURS]
    colours = dict(zip(curves, _COLOURS, strict=False))
    for panel, (epsilon, sparsity) in zip(panels.flat, CELLS, strict=True):
        here = [c for c in cells if (c["epsilon"], c["sparsity"]) == (epsilon, sparsity)]
        for name in (*curves, OURS):
            line = sorted(
                (c for c in here if c["curve"] == name), key=lambda c: int(c["gradients"])
            )
            x, y = [c["gradients"] for c in line], [100 * c["asr"] for c in line]
            if name == OURS:
                low, high = ([100 * c[end] for c in line] for end in ("asr_low", "asr_high"))
                panel.fill_between(x, low, high, color="#111111", alpha=0.08, linewidth=0)
            style = {"color": "#111111", "linewidth": 2.4} if name == OURS else {
                "color": colours[name], "linewidth": 1.3
            }  # fmt: skip
            panel.plot(x, y, marker="o", markersize=3, label=name, **style)
        panel.set_xscale("log")
        panel.set_xticks(GRADIENTS, [str(one) for one in GRADIENTS])
        panel.set_ylim(-3, 103)
        panel.minorticks_off()
        panel.set_title(f"epsilon {epsilon:g}, sparsity {sparsity:.0%}", fontsize=10)
        panel.grid(alpha=0.25)
        panel.spines[["top", "right"]].set_visible(False)
    for panel in panels[1]:
        panel.set_xlabel("gradients")
    for panel in panels[:, 0]:
        panel.set_ylabel("success, %")
    handles, names = panels[0, 0].get_legend_handles_labels()
    figure.legend(handles[::-1], names[::-1], loc="lower center", ncols=4, frameon=False)
    one = cells[0]
    figure.suptitle(f"{one['corpus']}, {one['head']}, {one['utterances']} utterances")
    figure.tight_layout(rect=(0, 0.09, 1, 1))
    figure.savefig(path, dpi=130, facecolor="white")
    plt.close(figure)


def main() -> None:
    """Measure, plot, and write the records."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--data", action="append", required=True, help="NAME=STORE:HEADS")
    parser.add_argument("--heads", nargs="+", default=["cnn", "bilstm", "transformer"])
    parser.add_argument("--utterances", type=int, default=48)
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--curves", nargs="+", help="only those whose name contains one of these")
    parser.add_argument("--records", type=Path, help="the figures as flat records, JSON")
    options = parser.parse_args()
    torch.set_num_threads(1)
    cells = run(options)
    if options.curves:
        return
    for victim in dict.fromkeys((cell["corpus"], cell["head"]) for cell in cells):
        mine = [cell for cell in cells if (cell["corpus"], cell["head"]) == victim]
        plot(mine, options.out / f"anytime-{'-'.join(victim)}.png")
    write_records(options.records, list(records(cells)))


if __name__ == "__main__":
    main()
