"""Why dual averaging works, and how far it gets beside Sparse-PGD, on real features.

    python benchmarks/dual_averaging.py FEATURES VICTIM FOLD [--part report] [--epsilon 0.5] [--sparsity 0.01]

FEATURES is a feature store, VICTIM a checkpoint, FOLD a file with `Fold.to_json()` of the fold that the
victim was trained on. Its test part is shuffled once; the first utterances are for choosing settings
(`--part choose`), the next ones for reporting. Prints two tables: what becomes of the support when the
corner follows the last gradient, a decaying mean, or the weighted sum; and the success rate, final margin
(0 where fooled), passes and CPU seconds of some settings, each beside the first, pair by pair.
"""  # noqa: E501 - a command on one line

from __future__ import annotations

import argparse
import dataclasses
import time
from pathlib import Path

import torch
from torch import Tensor

import sigma_ser as ss
from sigma_ser.attacks.active_set import ActiveSet
from sigma_ser.attacks.base import SparseAttack
from sigma_ser.attacks.dual_averaging import DualAveraging
from sigma_ser.attacks.losses import LOSSES, margin
from sigma_ser.corpora.folds import Fold


@dataclasses.dataclass(frozen=True, kw_only=True, repr=False)
class Traced(SparseAttack):
    """One run on the cross-entropy that writes down each step; nobody leaves."""

    keep: float  # of the sum so far: 1 is the sum weighted by t, 0 the last gradient alone
    steps: int = 20
    trace: list[tuple[float, float, float]] = dataclasses.field(default_factory=list)

    def search(self, active: ActiveSet) -> None:
        total, delta, last = active.zeros(), active.zeros(), active.zeros()
        for step in range(self.steps):
            (gradient,) = active.gradient(
                delta if step else None, LOSSES["cross-entropy"], counts=False
            )
            total = self.keep * total + gradient * (step + 1 if self.keep == 1 else 1)
            before, delta = delta != 0, active.corner(total)
            kept = (before & (delta != 0)).flatten(1).sum(1) / (delta != 0).flatten(1).sum(1)
            turn = torch.cosine_similarity(gradient.flatten(1), last.flatten(1))
            reached = margin(active.logits(delta), active.labels)
            self.trace.append((float(kept.mean()), float(turn.mean()), float(reached.mean())))
            last = gradient


SETTINGS = {
    "dual-averaging": DualAveraging(),
    "rounds=1": DualAveraging(rounds=1),
    "steps=20, rounds=1": DualAveraging(steps=20, rounds=1),
    "growth=0, normalised": DualAveraging(growth=0.0, normalised=True),
    "spgd": ss.make_attack("spgd"),
}


def support(victim: ss.Victim, batch: ss.FeatureBatch, labels: Tensor, budget: ss.Budget) -> None:
    """What becomes of the support, step by step."""
    print("corner of      support kept, steps 2-6, 15-20   cos of gradients   margin at 1, 5, 20")
    for name, keep in (("last gradient", 0.0), ("mean, 0.5", 0.5), ("weighted sum", 1.0)):
        traced = Traced(keep=keep)
        traced(victim, batch, labels, budget)
        kept, turn, reached = torch.tensor(traced.trace).T
        print(
            f"{name:14s} {kept[1:6].mean():19.2f} {kept[14:].mean():7.2f} {turn[1:].mean():18.2f} "
            f"{reached[0]:12.2f} {reached[4]:6.2f} {reached[19]:6.2f}", flush=True,
        )  # fmt: skip


def strength(victim: ss.Victim, batch: ss.FeatureBatch, labels: Tensor, budget: ss.Budget) -> None:
    """Success and final margin of each setting, and the mean difference to the first."""
    first: Tensor | None = None
    for name, attack in SETTINGS.items():
        started = time.process_time()
        result = attack(victim, batch, labels, budget)
        seconds = time.process_time() - started
        with torch.no_grad():
            reached = margin(victim(result.x_adv, batch.lengths), labels).clamp(max=0.0)
        first = reached if first is None else first
        more = reached - first
        print(
            f"{name:22s} ASR {100 * float(result.success.float().mean()):5.1f}  "
            f"margin {float(reached.mean()):7.3f} "
            f"({float(more.mean()):+.3f} +- {float(more.std() / len(more) ** 0.5):.3f})  "
            f"passes {float((result.forwards + result.backwards).float().mean()):6.1f}  "
            f"{seconds:5.1f} s", flush=True,
        )  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("features", type=Path)
    parser.add_argument("victim", type=Path)
    parser.add_argument("fold", type=Path)
    parser.add_argument("--part", choices=("choose", "report"), default="report")
    parser.add_argument("--utterances", type=int, default=48)
    parser.add_argument("--epsilon", type=float, default=0.5)
    parser.add_argument("--sparsity", type=float, default=0.01)
    options = parser.parse_args()
    torch.set_num_threads(1)
    victim, store = ss.load_victim(options.victim), ss.FeatureStore(options.features)
    test = Fold.from_json(options.fold.read_text()).test
    order = torch.randperm(len(test), generator=torch.Generator().manual_seed(0)).tolist()
    first = 0 if options.part == "choose" else options.utterances
    ids = [test[place] for place in order[first : first + options.utterances]]
    batch, labels = store.batch(ids), store.labels(ids)
    with torch.no_grad():
        right = (victim(batch.x, batch.lengths).argmax(1) == labels).nonzero()[:, 0]
    batch, labels = batch.select(right), labels[right]
    budget = ss.Budget(sparsity=options.sparsity, epsilon=options.epsilon)
    support(victim, batch, labels, budget)
    strength(victim, batch, labels, budget)


if __name__ == "__main__":
    main()
