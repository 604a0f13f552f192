"""What a CUDA device changes: cost of a step, utterances a second, and the same strength.

    python benchmarks/gpu.py --store STORE --heads HEADS [--only mlp cnn transformer] \\
        [--device cuda] [--utterances 64] [--out FILE.json]

STORE is a feature store and HEADS a folder of victims named by their head (`heads.py` makes both).
For every head: milliseconds of a forward and backward pass, as it is and through `torch.compile`,
and of a step of `dual-averaging` beside it at batch sizes 1, 16, 64 and 256; utterances a second of
the attack with its defaults, here and on the CPU; and the success rate on both, whose 95 %
intervals must overlap. The time is that of the wall clock, read when the device has ended its work.
Everything is float32: an audit never uses mixed precision.

Without a CUDA device nothing is measured, and the exit status is 2; `--device cpu` tries the
script.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import sigma_ser as ss
from certificates import recognised
from measuring import Ratio, record, table, write_records
from overhead import Stubborn
from sigma_ser.core.errors import AttackError
from sigma_ser.execution.devices import ready
from sigma_ser.statistics.proportion import wilson_interval

BATCHES = (1, 16, 64, 256)
BUDGET = ss.Budget(sparsity=0.01, epsilon=0.5)
STEPS, ROUNDS = 10, 5


def seconds(work: Callable[[], object], device: torch.device) -> list[float]:
    """Wall-clock seconds of some calls, after one to warm up."""
    taken = []
    for turn in range(ROUNDS + 1):
        _wait(device)
        started = time.perf_counter()
        work()
        _wait(device)
        if turn:
            taken.append(time.perf_counter() - started)
    return taken


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def passes(module: nn.Module, batch: ss.FeatureBatch) -> Callable[[], None]:
    """Some forward and backward passes of a module, recurrent layers without cuDNN as in a victim.

    cuDNN has no backward pass for recurrent layers in eval mode.
    """
    recurrent = any(isinstance(part, nn.RNNBase) for part in module.modules())

    def work() -> None:
        for _ in range(STEPS):
            x = batch.x.clone().requires_grad_()
            with torch.backends.cudnn.flags(enabled=not recurrent):
                logits = module(x, batch.lengths)
                torch.autograd.grad((logits[:, 1] - logits[:, 0]).sum(), x)

    return work


def step_cost(
    head: str, victim: ss.WrappedVictim, batch: ss.FeatureBatch, labels: Tensor
) -> list[dict[str, Any]]:
    """A pass, a compiled pass, and a step, at every batch size."""
    unfooled = ss.wrap(Stubborn(victim.module).eval(), mean=victim.mean, scale=victim.scale)
    long, short = (
        ss.attacks.DualAveraging(steps=steps, rounds=1, losses=("margin",))
        for steps in (STEPS + 1, 1)
    )
    lines = []
    for size in BATCHES:
        rows = torch.arange(size) % len(batch)
        some, device = batch.select(rows), batch.device
        several = ss.FeatureBatch(some.x, some.lengths)
        wanted = torch.zeros_like(labels)[rows.to(labels.device)]

        def attacked(
            attack: ss.Attack, several: ss.FeatureBatch = several, wanted: Tensor = wanted
        ) -> Callable[[], ss.AttackResult]:
            return lambda: attack(unfooled, several, wanted, BUDGET)

        plain = seconds(passes(victim.module, several), device)
        compiled = seconds(passes(torch.compile(victim.module), several), device)
        taken = [seconds(attacked(one), device) for one in (long, short)]
        counts = [int(attacked(one)().backwards.max()) for one in (long, short)]
        one_pass = statistics.median(plain) / STEPS
        shares = sorted(
            (more - less) / (counts[0] - counts[1]) / one_pass
            for more, less in zip(*taken, strict=True)
        )
        setting = f"{head}, {device.type}, B {size}"
        lines += [
            record("pass", setting, 1e3 * one_pass, "ms"),
            record("compiled pass", setting, 1e3 * statistics.median(compiled) / STEPS, "ms"),
            record(
                "step over pass",
                setting,
                Ratio(statistics.median(shares), shares[0], shares[-1]),
                "x",
            ),
        ]
    return lines


def strength(
    head: str, victim: Any, batch: ss.FeatureBatch, labels: Tensor, device: torch.device
) -> list[dict[str, Any]]:
    """Utterances a second and success rate on the CPU and on the device."""
    lines, intervals = [], []
    for place in dict.fromkeys((torch.device("cpu"), device)):
        moved, here = victim.to(place), batch.to(place)
        attack = ss.attacks.DualAveraging()
        wanted = labels.to(place)
        attack(moved, here.select(torch.arange(min(4, len(here)))), wanted[:4], BUDGET)  # warms up
        started = time.perf_counter()
        result = attack(moved, here, wanted, BUDGET)
        _wait(place)
        rate = len(here) / (time.perf_counter() - started)
        fooled = int(result.success.sum())
        low, high = wilson_interval(fooled, len(here))
        intervals.append((low, high))
        setting = f"{head}, {place.type}, {len(here)} utterances"
        lines.append(record("utterances a second", setting, rate, ""))
        lines.append(record("success", setting, Ratio(fooled / len(here), low, high), ""))
    apart = max(low for low, _ in intervals) - min(high for _, high in intervals)
    lines.append(record("distance of the intervals", head, max(apart, 0.0), "", at_most=0.0))
    return lines


def main() -> None:
    """Measure every head, print, write."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--store", type=Path, required=True)
    parser.add_argument("--heads", type=Path, required=True)
    parser.add_argument("--only", nargs="+", default=["mlp", "cnn", "transformer"])
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--utterances", type=int, default=64)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    if given.device == "cuda" and not torch.cuda.is_available():
        print("no CUDA device is visible, so nothing was measured")
        sys.exit(2)
    device = ready(given.device)
    store, lines = ss.FeatureStore(given.store), []
    for head in given.only:
        victim = ss.load_victim(given.heads / head)
        batch, labels = recognised(store, victim, given.utterances)
        if not len(batch):
            raise AttackError(f"{head} recognises no utterance; train it for longer")
        lines += step_cost(head, victim.to(device), batch.to(device), labels.to(device))
        lines += strength(head, victim, batch, labels, device)
        # After each head, so that a run that is stopped has the figures so far.
        write_records(given.out, lines)
    print(table(lines))


if __name__ == "__main__":
    main()
