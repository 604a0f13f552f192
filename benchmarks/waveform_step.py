"""Attacks on the waveform: the cost of a step, and dense PGD beside that of torchattacks.

    python benchmarks/waveform_step.py [--encoder demo] [--batches 1 8] [--rounds 5] \\
        [--utterances 24] [--out FILE.json]

First the ratio of one step of an attack to one bare forward and backward pass of the whole model
(encoder and `mlp` head on recordings of the demo corpus, a victim that no perturbation changes),
as `overhead.py` measures it; the target is 1.1. Then PGD and `dual-averaging` of this package and
PGD of torchattacks, if it is installed, on the same recordings, at the same epsilon, with the same
number of steps, all samples allowed to change: success and CPU seconds.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import sigma_ser as ss
from measuring import in_turns, ratio, record, table, write_records
from overhead import SETTINGS, Stubborn

STEPS = 20
EPSILONS = (0.0002, 0.0005, 0.001)


class MeanLinear(torch.nn.Linear):
    """A linear layer on the mean over time."""

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        return super().forward(x.sum(1) / lengths[:, None])


def step_over_pass(encoder: ss.Encoder, name: str, size: int, rounds: int) -> list[dict[str, Any]]:
    """Milliseconds of a pass and of a step, and their ratio."""
    corpus = ss.load_corpus("demo")
    waves = ss.waveforms(corpus, [one.id for one in corpus.utterances[:size]])
    torch.manual_seed(0)
    head = ss.wrap(Stubborn(MeanLinear(encoder.dim, 5)).eval())
    # All activations are kept, as they are in the bare pass.
    victim = ss.on_waveform(encoder, head, kept_seconds=1e6)
    labels = torch.zeros(size, dtype=torch.long)
    budget = ss.Budget(sparsity=0.1, epsilon=0.001)
    steps, settings = 4, SETTINGS.get(name, {})
    made = ss.make_attack(name, steps=steps, **settings)
    fewer = ss.make_attack(name, steps=1, **settings)
    counts = [one(victim, waves, labels, budget) for one in (fewer, made)]
    few, many = (int(result.forwards[0] + result.backwards[0]) for result in counts)

    def passes() -> None:
        for _ in range(steps):
            x = waves.x.clone().requires_grad_()
            logits = victim(x, waves.lengths)
            torch.autograd.grad((logits[:, 1] - logits[:, 0]).sum(), x)

    plain, long, short = in_turns(
        [
            passes,
            lambda: made(victim, waves, labels, budget),
            lambda: fewer(victim, waves, labels, budget),
        ],
        rounds,
    )
    one_pass = [seconds / steps for seconds in plain]
    step = [2 * (b - c) / (many - few) for b, c in zip(long, short, strict=True)]
    setting = f"{name}, {encoder.source.name}, B {size}"
    return [
        record("pass", setting, 1e3 * statistics.median(one_pass), "ms"),
        record("step", setting, 1e3 * statistics.median(step), "ms"),
        record("step over pass", setting, ratio(step, one_pass), "x", at_most=1.1),
    ]


def beside_torchattacks(encoder: ss.Encoder, utterances: int) -> list[dict[str, Any]]:
    """Success rate and CPU seconds of dense attacks on a trained victim."""
    corpus = ss.load_corpus("demo")
    fold = ss.make_folds(corpus, "demo-voices")[0]
    with tempfile.TemporaryDirectory() as folder:
        store = ss.extract(corpus, encoder, out=folder)
        victim = ss.on_waveform(encoder, ss.train(store, fold, head="mlp"))
    index = {label: place for place, label in enumerate(victim.class_names)}
    chosen = []
    for one in fold.test:
        waves = ss.waveforms(corpus, [one])
        if int(victim(waves.x, waves.lengths).argmax()) == index[corpus[one].label]:
            chosen.append(one)
    chosen = sorted(chosen[:utterances], key=lambda one: corpus[one].num_samples)
    attacks = {
        "pgd": ss.make_attack("pgd", steps=STEPS),
        "dual-averaging": ss.make_attack("dual-averaging", steps=STEPS // 2, rounds=2),
    }
    try:
        attacks["torchattacks PGD"] = ss.make_attack("torchattacks:PGD", steps=STEPS)
    except ss.SigmaError as refusal:
        print(f"left out: {refusal}")
    lines = []
    for epsilon in EPSILONS:
        for name, attack in attacks.items():
            fell, spent = 0, 0.0
            for start in range(0, len(chosen), 8):
                ids = chosen[start : start + 8]
                waves = ss.waveforms(corpus, ids)
                labels = torch.tensor([index[corpus[one].label] for one in ids])
                started = time.process_time()
                found = ss.attack(attack, victim, waves, labels,
                                  ss.Budget(sparsity=1.0, epsilon=epsilon))  # fmt: skip
                spent += time.process_time() - started
                fell += int(found.success.sum())
            setting = f"{name}, epsilon {epsilon:g}: {fell} of {len(chosen)}"
            lines.append(record("success", setting, fell / len(chosen), ""))
            lines.append(record("CPU seconds", setting, spent / len(chosen), "s an utterance"))
            print(setting, f"{spent / len(chosen):.2f} s", flush=True)
    return lines


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--encoder", default="demo")
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 8])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--utterances", type=int, default=24)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    torch.set_num_threads(1)
    encoder = ss.load_encoder(given.encoder)
    lines = []
    for name in ("dual-averaging", "pgd"):
        for size in given.batches:
            lines += step_over_pass(encoder, name, size, given.rounds)
            print(table(lines[-1:]), flush=True)
    lines += beside_torchattacks(encoder, given.utterances)
    print(table(lines))
    write_records(given.out, lines)


if __name__ == "__main__":
    main()
