"""Which utterances an attack misses that some choice of elements and signs misclassifies.

    python benchmarks/brute_force.py [--victims 50] [--attacks NAME ...] [--records FILE.json]

The victims are tiny: 6 frames of 4 channels, so that every support of up to three elements with
every sign can be tried. An utterance counts if one of these corners is misclassified and the clean
input is not. Heads have random weights, four times as large as at the start of training, so that
they are far from linear.
"""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor

import sigma_ser as ss
from measuring import record, table, write_records
from sigma_ser.core import registry

FRAMES, CHANNELS, CLASSES = 6, 4, 3
HEADS = ("mlp", "cnn", "transformer", "gru", "attention")
ATTACKS = (
    "sigma-autoattack", "sparse-autoattack", "dual-averaging", "reselect", "spgd", "sparse-rs",
    "saif", "sigma-zero", "pgd0", "oneshot", "jsma", "random",
)  # fmt: skip


def corners(k: int) -> Tensor:
    """Every support of `k` elements with every sign, `(N, T * D)`."""
    size = FRAMES * CHANNELS
    supports = torch.tensor(list(itertools.combinations(range(size), k)))
    signs = torch.tensor(list(itertools.product([-1.0, 1.0], repeat=k)))
    places = supports.repeat_interleave(len(signs), dim=0)
    return torch.zeros(len(places), size).scatter(1, places, signs.repeat(len(supports), 1))


def questions(victims: int) -> Iterator[tuple[ss.WrappedVictim, ss.FeatureBatch, Tensor]]:
    """Victims with utterances that they classify as some class, one batch each."""
    for number in range(victims):
        torch.manual_seed(number)
        head = registry.get("head", HEADS[number % len(HEADS)])(CHANNELS, CLASSES, hidden=8)
        with torch.no_grad():
            for weight in head.parameters():
                weight.mul_(4.0 if weight.ndim > 1 else 1.0)
        victim = ss.wrap(head.eval())
        batch = ss.FeatureBatch(torch.randn(8, FRAMES, CHANNELS), torch.full((8,), FRAMES))
        with torch.no_grad():
            yield victim, batch, victim(batch.x, batch.lengths).argmax(1)


def fooled(
    victim: ss.WrappedVictim, batch: ss.FeatureBatch, labels: Tensor, k: int, epsilon: float
) -> Tensor:
    """Whether some corner is misclassified, `(B,)`."""
    moves = epsilon * corners(k).view(-1, FRAMES, CHANNELS)
    found = []
    with torch.no_grad():
        for x, label in zip(batch.x, labels, strict=True):
            hit = False
            for part in (x + moves).split(4096):
                hit |= bool(
                    (victim(part, torch.full((len(part),), FRAMES)).argmax(1) != label).any()
                )
            found.append(hit)
    return torch.tensor(found)


def main() -> None:
    """Try all corners, then the attacks; print, write."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--victims", type=int, default=50)
    parser.add_argument("--attacks", nargs="+", default=list(ATTACKS))
    parser.add_argument("--records", type=Path, help="the figures as flat records, JSON")
    given = parser.parse_args()
    torch.set_num_threads(1)
    total, missed = 0, dict.fromkeys(given.attacks, 0)
    for number, (victim, batch, labels) in enumerate(questions(given.victims)):
        k, epsilon = 1 + number % 3, (0.3, 0.6)[number % 2]
        some = fooled(victim, batch, labels, k, epsilon)
        total += int(some.sum())
        budget = ss.Budget(count=k, epsilon=epsilon)
        for name in given.attacks:
            result = ss.attack(name, victim, batch, labels, budget)
            missed[name] += int((some & ~result.success).sum())
    lines = [record("utterances that some corner misclassifies", "all victims", total, "")]
    for name, count in missed.items():
        target = {"at_most": 0} if name == "sigma-autoattack" else {}
        lines.append(record("missed", name, count, "", **target))
    print(table(lines))
    write_records(given.records, lines)


if __name__ == "__main__":
    main()
