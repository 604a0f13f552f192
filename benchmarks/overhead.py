"""What a step of an attack costs beside the victim's own forward and backward pass.

    python benchmarks/overhead.py [--attacks NAME ...] [--batches 1 16 64] [--out FILE.json]

For every attack, registered head and batch size: milliseconds of one forward and backward pass and
of one attack step (T 80, D 384, default head sizes, a random victim that nothing fools), and their
ratio beside the target. A step is the difference of a long and a short attack, so that what an
attack pays once is left out, for every two passes that the victim has counted in it. The three are
timed in turns (A B C A B C ...), in CPU time of one thread, and the table has medians; the spread
is the interquartile range of the ratio over the rounds.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from measuring import in_turns, ratio, record, verdict, write_records
from sigma_ser.attacks.factory import make_attack
from sigma_ser.core import registry
from sigma_ser.core.budget import Budget
from sigma_ser.core.errors import SigmaError
from sigma_ser.core.features import FeatureBatch
from sigma_ser.victims.victim import WrappedVictim, wrap

FRAMES, CHANNELS, CLASSES = 80, 384, 7
RECURRENT = {"bilstm", "gru"}
POOLED = {"linear", "mlp", "attention", "superb", "emobox"}  # pool frames without any between


def target(head: str) -> float:
    """The largest ratio that we want."""
    if head in RECURRENT:
        return 1.15
    return 2.2 if head in POOLED else 1.4


class Stubborn(torch.nn.Module):
    """A head that answers class 0 whatever happens, so that every step is made."""

    def __init__(self, head: torch.nn.Module) -> None:
        super().__init__()
        self.head = head

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        logits: Tensor = self.head(x, lengths)
        classes = torch.arange(logits.shape[1], device=logits.device)
        return logits + 1e4 * (classes == 0)


def unfoolable(head: str, channels: int = CHANNELS, classes: int = CLASSES) -> WrappedVictim:
    """A random victim of that head whose answer no perturbation changes."""
    torch.manual_seed(0)
    return wrap(Stubborn(registry.get("head", head)(channels, classes)).eval())


# What makes an attack short, simple and its steps alike.
SETTINGS: dict[str, dict[str, Any]] = {
    "dual-averaging": {"losses": ("margin",), "rounds": 1},
    "pgd": {"keep_largest": True},
    "mifgsm": {"keep_largest": True},
}


def measure(
    name: str, head: str, size: int, options: argparse.Namespace
) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
    """A pass, a step, and their ratio, of one attack, head and batch size."""
    victim = unfoolable(head)
    batch = FeatureBatch(torch.randn(size, FRAMES, CHANNELS), torch.full((size,), FRAMES))
    labels = torch.zeros(size, dtype=torch.long)
    settings = SETTINGS.get(name, {})
    made = make_attack(name, steps=options.steps, **settings)
    fewer = make_attack(name, steps=1, **settings)
    budget = Budget(sparsity=0.01, epsilon=0.5)
    counts = [one(victim, batch, labels, budget) for one in (fewer, made)]
    few, many = (int(result.forwards[0] + result.backwards[0]) for result in counts)
    steps = (many - few) / 2

    def passes() -> None:
        for _ in range(options.steps):
            x = batch.x.clone().requires_grad_()
            logits = victim(x, batch.lengths)
            torch.autograd.grad((logits[:, 1] - logits[:, 0]).sum(), x)

    plain, long, short = in_turns(
        [
            passes,
            lambda: made(victim, batch, labels, budget),
            lambda: fewer(victim, batch, labels, budget),
        ],
        options.rounds,
    )
    one_pass = [seconds / options.steps for seconds in plain]
    step = [(b - c) / steps for b, c in zip(long, short, strict=True)]
    setting = f"{name}, {head}, B {size}"
    return (
        record("pass", setting, 1e3 * statistics.median(one_pass), "ms"),
        record("step", setting, 1e3 * statistics.median(step), "ms"),
        record("step over pass", setting, ratio(step, one_pass), "x",
               # The target is that of the strongest attack.
               at_most=target(head) if name == "dual-averaging" else None),
    )  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--attacks", nargs="+", default=["dual-averaging"])
    parser.add_argument("--heads", nargs="+", default=list(registry.names("head")))
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 16, 64])
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    lines: list[dict[str, Any]] = []
    print("| attack | head | B | pass ms | step ms | ratio | spread | target |")
    print("|---|---|--:|--:|--:|--:|--:|--:|")
    for name, head, size in itertools.product(options.attacks, options.heads, options.batches):
        try:
            plain, step, line = measure(name, head, size, options)
        except SigmaError as refusal:
            print(f"left out: {name} on {head}: {refusal}")
            continue
        lines += (plain, step, line)
        print(
            f"| {name} | {head} | {size} | {plain['value']:.2f} | {step['value']:.2f} "
            f"| {line['value']:.2f} | {line['low']:.2f} to {line['high']:.2f} "
            f"| {line['target'] or ''} {verdict(line) if line['target'] else ''} |",
            flush=True,
        )
    write_records(options.out, lines)


if __name__ == "__main__":
    main()
