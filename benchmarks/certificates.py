"""How much of the robust accuracy certificates and attacks leave open.

    python benchmarks/certificates.py --store STORE --heads HEADS --out FILE [--part affine] \\
        [--utterances 48] [--sparsity 0.001 0.01 0.02] [--epsilon 0.5 1 2]

STORE is a feature store and HEADS a folder of victims named by their head (`heads.py` makes both).
Parts: `affine` (linear and superb, with and without a mask of scope 4), `framewise` (emobox, mlp,
cnn; `--only emobox` restricts it to one head), `ablation` (the smoothed victim at f = 1, 2, 4, 8
frames, for heads `emobox` trained here with and without frame dropout). Each line counts the
utterances that are certified, fooled, undecided, and both, which must be 0, and the seconds of the
certificate. An affine victim is attacked at the best corner of each other class, which is exact;
the others with `dual-averaging`, and what neither it nor the certificate decides with `--attack`.
FILE receives one JSON record a line; budgets that are there are not computed again.
"""

from __future__ import annotations

import argparse
import itertools
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import sigma_ser as ss
from sigma_ser.certificates import FrameAblation
from sigma_ser.statistics.classification import confusion_matrix, uar

PARTS = {"affine": ("linear", "superb"), "framewise": ("emobox", "mlp", "cnn")}
FRAMES = (1, 2, 4, 8)
# The largest rise of each margin of an affine victim is at the corner of its gradient's signs.
EVERY_CORNER = ss.attacks.DualAveraging(steps=1, rounds=1, losses=("margin",), all_targets=True)


def recognised(store: ss.FeatureStore, victim: Any, most: int) -> tuple[ss.FeatureBatch, Tensor]:
    """Utterances of the victim's test part that it classifies correctly, at most `most`."""
    rng = torch.Generator().manual_seed(0)
    names = list(victim.fold.test)
    names = [names[place] for place in torch.randperm(len(names), generator=rng).tolist()]
    view = victim.view(store)
    batch, labels = view.batch(names), view.labels(names)
    with torch.no_grad():
        right = torch.cat(
            [
                victim(batch.x[at : at + 32], batch.lengths[at : at + 32]).argmax(1)
                for at in range(0, len(names), 32)
            ]
        )
    rows = (right == labels).nonzero()[:, 0][:most]
    return batch.select(rows), labels[rows]


def counted(
    victim: Any,
    batch: ss.FeatureBatch,
    labels: Tensor,
    budget: ss.Budget,
    *,
    attacks: tuple[ss.Attack, ...],
    mask: Tensor | None = None,
) -> dict[str, Any]:
    """Certified, fooled, undecided and both."""
    started = time.process_time()
    bound = ss.certify(victim, batch, labels, budget, mask=mask)
    seconds = (time.process_time() - started) / len(batch)
    first, *others = attacks
    fooled = ss.attack(first, victim, batch, labels, budget, mask=mask).success
    for attack in others:
        rows = (~bound.certified & ~fooled).nonzero()[:, 0]
        if len(rows):
            part = None if mask is None else mask[rows]
            again = ss.attack(attack, victim, batch.select(rows), labels[rows], budget, mask=part)
            fooled[rows] = again.success
    return {
        "granularity": budget.granularity, "sparsity": budget.sparsity, "epsilon": budget.epsilon,
        "masked": mask is not None, "method": bound.method, "utterances": len(batch),
        "certified": int(bound.certified.sum()), "fooled": int(fooled.sum()),
        "undecided": int((~bound.certified & ~fooled).sum()),
        "both": int((bound.certified & fooled).sum()), "seconds": round(seconds, 3),
    }  # fmt: skip


def grid(
    options: argparse.Namespace, part: str, done: set[tuple[Any, ...]]
) -> Iterator[dict[str, Any]]:
    """Affine and framewise heads at every budget that is not done yet."""
    store = ss.FeatureStore(options.store)
    affine = part == "affine"
    for head in options.only or PARTS[part]:
        victim = ss.load_victim(options.heads / head)
        batch, labels = recognised(store, victim, options.utterances)
        saliency = ss.explain("gradient", victim, batch, labels) if affine else None
        attacks = (EVERY_CORNER,) if affine else (
            ss.attacks.DualAveraging(), ss.make_attack(options.attack)
        )  # fmt: skip
        for granularity, epsilon, sparsity in itertools.product(
            options.granularity, options.epsilon, options.sparsity
        ):
            budget = ss.Budget(sparsity=sparsity, epsilon=epsilon, granularity=granularity)
            masks: list[Tensor | None] = [None]
            if saliency is not None:
                masks.append(ss.topk_mask(saliency, batch.lengths, budget, scope=4))
            for mask in masks:
                key = (head, granularity, sparsity, epsilon, mask is not None)
                if key in done:
                    continue
                yield {
                    "head": head,
                    **counted(victim, batch, labels, budget, attacks=attacks, mask=mask),
                }


def ablation(options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Certified share and clean UAR of the smoothed victim, with and without frame dropout."""
    store = ss.FeatureStore(options.store)
    fold = ss.load_victim(options.heads / "emobox").fold
    assert fold is not None
    rng = torch.Generator().manual_seed(0)
    chosen = torch.randperm(len(fold.test), generator=rng)[: options.utterances].tolist()
    names = [fold.test[place] for place in chosen]
    batch, labels = store.batch(names), store.labels(names)
    for dropout in (0.0, 0.9):
        victim = ss.train(
            store, fold, head="emobox", epochs=options.epochs, patience=4, frame_dropout=dropout
        )
        for kept in options.kept:
            method = FrameAblation(kept=kept)
            smoothed = method.predict(victim, batch)
            classes = len(store.class_names)
            scores = {
                "uar": uar(confusion_matrix(labels.numpy(), smoothed.numpy(), classes)),
                "uar_of_the_victim": victim.card.metrics["test"]["uar"],
            }
            for frames in FRAMES:
                budget = ss.Budget(count=frames * batch.x.shape[2], granularity="frame")
                started = time.process_time()
                bound = method(victim, batch, labels, budget)
                yield {
                    "head": "emobox", "frame_dropout": dropout, "kept": kept, "frames": frames,
                    **scores, "utterances": len(batch), "certified": int(bound.certified.sum()),
                    "seconds": round((time.process_time() - started) / len(batch), 3),
                }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--store", type=Path, required=True)
    parser.add_argument("--heads", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--part", choices=[*PARTS, "ablation"], default="affine")
    parser.add_argument("--utterances", type=int, default=48)
    parser.add_argument("--only", nargs="+", help="heads; by default all of the part")
    parser.add_argument("--epochs", type=int, default=20, help="of the part ablation")
    parser.add_argument("--kept", type=int, nargs="+", default=[5, 10], help="frames, of ablation")
    parser.add_argument("--granularity", nargs="+", default=["element"])
    parser.add_argument("--attack", default="sigma-autoattack")
    parser.add_argument("--sparsity", type=float, nargs="+", default=[0.001, 0.01, 0.02])
    parser.add_argument("--epsilon", type=float, nargs="+", default=[0.5, 1.0, 2.0])
    options = parser.parse_args()
    torch.set_num_threads(1)
    done = set()
    if options.part != "ablation" and options.out.exists():
        keys = ("head", "granularity", "sparsity", "epsilon", "masked")
        for text in options.out.read_text(encoding="utf-8").splitlines():
            done.add(tuple(json.loads(text)[key] for key in keys))
    lines = ablation(options) if options.part == "ablation" else grid(options, options.part, done)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    with options.out.open("a", encoding="utf-8") as file:
        for line in lines:
            file.write(json.dumps(line) + "\n")
            file.flush()
            print("  ".join(f"{name} {value}" for name, value in line.items()), flush=True)


if __name__ == "__main__":
    main()
