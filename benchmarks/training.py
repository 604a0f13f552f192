"""Training time: `ss.train` against a bare PyTorch loop of the same head, batches and epochs.

    python benchmarks/training.py STORE --root DIR [--protocol tess-loso2] [--head bilstm]

The bare loop has all features in memory, padded and batched beforehand, and does nothing but
forward, backward and optimiser steps, in training mode: no reading, no shuffling, no schedule, no
validation, no card. The two are interleaved; seconds are of the process (CPU) and of the wall.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import torch
from torch import nn

import sigma_ser as ss
from measuring import record, write_records
from sigma_ser.victims.checkpoint import make_head
from sigma_ser.victims.victim import Standardised


def ours(store: ss.FeatureStore, fold: ss.Fold, head: str, epochs: int) -> None:
    """Everything: statistics, reading, training, validation, scores, card."""
    ss.train(store, fold, head, epochs=epochs, patience=epochs)


def bare(batches: list[tuple[ss.FeatureBatch, torch.Tensor]], head: str, epochs: int) -> None:
    """The loop alone."""
    channels = batches[0][0].x.shape[2]
    classes = int(max(labels.max() for _, labels in batches)) + 1
    ones = torch.ones(channels)
    module = Standardised(make_head(head, channels, classes, {}), 0 * ones, ones).train()
    optimizer = torch.optim.AdamW(module.parameters(), lr=1e-3)
    criterion = nn.CrossEntropyLoss(label_smoothing=0.1)
    for _ in range(epochs):
        for batch, labels in batches:
            optimizer.zero_grad(set_to_none=True)
            criterion(module(batch.x, batch.lengths), labels).backward()
            optimizer.step()


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("store")
    parser.add_argument("--root")
    parser.add_argument("--protocol", default="tess-loso2")
    parser.add_argument("--head", default="bilstm")
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--out", type=Path, help="figures as flat records, JSON")
    given = parser.parse_args()
    torch.set_num_threads(1)

    store = ss.FeatureStore(given.store)
    corpus = ss.load_corpus(store.card["corpus"]["name"], given.root)
    fold = ss.make_folds(corpus, given.protocol)[0]
    # Of like length, as in our training.
    names = [tuple(ids) for ids in store.batches(fold.train, 32, seed=0)]
    batches = [(store.batch(ids), store.labels(ids)) for ids in names]
    sums = {"sigma-ser": [0.0, 0.0], "bare loop": [0.0, 0.0]}
    for _ in range(given.rounds):
        for name, sum_of in sums.items():
            wall, own = time.perf_counter(), time.process_time()
            if name == "bare loop":
                bare(batches, given.head, given.epochs)
            else:
                ours(store, fold, given.head, given.epochs)
            sum_of[0] += time.process_time() - own
            sum_of[1] += time.perf_counter() - wall
    print(f"{given.head}, {fold.name}, {len(fold.train)} utterances, {given.epochs} epochs, "
          f"mean of {given.rounds}")  # fmt: skip
    print("| loop | CPU seconds | wall seconds |\n|---|--:|--:|")
    for name, (own, wall) in sums.items():
        print(f"| {name} | {own / given.rounds:.1f} | {wall / given.rounds:.1f} |")
    (own, wall), (bare_own, bare_wall) = sums["sigma-ser"], sums["bare loop"]
    setting = f"{given.head}, {fold.name}"
    write_records(given.out, [
        record("training, CPU seconds", setting, own / given.rounds, "s"),
        record("training over a bare loop, CPU", setting, own / bare_own, "x"),
    ])  # fmt: skip
    print(f"| ratio | {own / bare_own:.2f} | {wall / bare_wall:.2f} |")


if __name__ == "__main__":
    main()
