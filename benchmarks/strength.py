"""How strong the attacks are, and what they cost, on real TESS features.

    python benchmarks/strength.py FEATURES VICTIM [--attacks NAME ...] [--utterances 48]

FEATURES is a feature store (`sigma-ser extract`), VICTIM a checkpoint (`sigma-ser train`). Prints
a row for each attack: in every cell the attack success rate in per cent with its 95 % interval
(Wilson), forward and backward passes an utterance, and seconds for each success.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

import sigma_ser as ss
from sigma_ser.core.contracts import AttackResult, Victim
from sigma_ser.core.features import FeatureBatch
from sigma_ser.statistics.proportion import wilson_interval

CELLS = [(0.5, 0.01), (0.5, 0.02), (1.0, 0.01), (1.0, 0.02)]
ATTACKS = ("random", "oneshot", "dual-averaging", "reselect", "spgd", "sigma-zero", "saif", "pgd0")


def cell(result: AttackResult, taken: float) -> str:
    """One cell of the table."""
    successes, trials = int(result.success.sum()), len(result.success)
    low, high = (
        float(end[0]) for end in wilson_interval(np.array([successes]), np.array([trials]))
    )
    passes = float((result.forwards + result.backwards).float().mean())
    each = f"{taken / successes:.2f}" if successes else "-"
    return (
        f"{100 * successes / trials:3.0f} [{100 * low:3.0f}, {100 * high:3.0f}] "
        f"{passes:6.1f} {each:>6s}"
    )


def correctly_classified(
    victim: Victim, batch: FeatureBatch, labels: Tensor, most: int
) -> tuple[FeatureBatch, Tensor]:
    """The first `most` utterances that the victim gets right."""
    with torch.no_grad():
        right = (victim(batch.x, batch.lengths).argmax(1) == labels).nonzero()[:most, 0]
    return batch.select(right), labels[right]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("features", type=Path)
    parser.add_argument("victim", type=Path)
    parser.add_argument("--attacks", nargs="+", default=ATTACKS)
    parser.add_argument("--utterances", type=int, default=48)
    options = parser.parse_args()
    torch.set_num_threads(1)
    victim = ss.load_victim(options.victim)
    store = ss.FeatureStore(options.features)
    ids = store.ids[:: max(1, len(store.ids) // (4 * options.utterances))]
    batch, labels = correctly_classified(
        victim, store.batch(ids), store.labels(ids), options.utterances
    )
    print(
        "cells: ASR [95 %], passes, s per success at", *(f"eps {e:g} k {k:.0%}" for e, k in CELLS)
    )
    for name in options.attacks:
        cells = []
        for epsilon, sparsity in CELLS:
            started = time.perf_counter()
            result = ss.attack(name)(
                victim, batch, labels, ss.Budget(sparsity=sparsity, epsilon=epsilon)
            )
            cells.append(cell(result, time.perf_counter() - started))
        print(f"{name:18s}", " | ".join(cells), flush=True)


if __name__ == "__main__":
    main()
