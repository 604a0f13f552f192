"""How much adversarial training buys: success rate and UAR of a plain and a hardened victim.

    python benchmarks/hardening.py STORE [--root DIR] [--protocol demo-voices] [--head mlp]

Trains both on the first fold of the protocol with the same seed, and attacks the test part with
`dual-averaging` at the budget that one of them was hardened against. Prints a table.
"""

from __future__ import annotations

import argparse
import time
from typing import Any

import torch

import sigma_ser as ss
from sigma_ser.statistics.bootstrap import mean_interval
from sigma_ser.victims.settings import AdversarialTraining


def success_rate(
    victim: Any, store: ss.FeatureStore, ids: tuple[str, ...], attack: Any, budget: ss.Budget
) -> tuple[float, float, float]:
    """`asr` over the utterances that the victim knows, with its 95 % interval."""
    flipped = []
    for start in range(0, len(ids), 32):
        part = ids[start : start + 32]
        batch, labels = store.batch(part), store.labels(part)
        with torch.no_grad():
            known = victim(batch.x, batch.lengths).argmax(1) == labels
        flipped.append(attack(victim, batch, labels, budget).success[known])
    hits = torch.cat(flipped).double().numpy()
    return float(hits.mean()), *mean_interval(hits)


def main() -> None:
    """Train, attack, print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("store")
    parser.add_argument("--root")
    parser.add_argument("--protocol", default="demo-voices")
    parser.add_argument("--head", default="mlp")
    parser.add_argument("--sparsity", type=float, default=0.01)
    parser.add_argument("--epsilon", type=float, default=0.5)
    parser.add_argument("--steps", type=int, default=5, help="of the attack in training")
    parser.add_argument("--share", type=float, default=0.5)
    parser.add_argument("--epochs", type=int, default=40)
    given = parser.parse_args()
    torch.set_num_threads(1)

    store = ss.FeatureStore(given.store)
    corpus = ss.load_corpus(store.card["corpus"]["name"], given.root)
    fold = ss.make_folds(corpus, given.protocol)[0]
    budget = ss.Budget(sparsity=given.sparsity, epsilon=given.epsilon)
    hardening = AdversarialTraining(
        attack=ss.make_attack("dual-averaging", steps=given.steps, rounds=1),
        budget=budget,
        share=given.share,
    )
    strong = ss.make_attack("dual-averaging", steps=20, rounds=1)
    print(f"{given.head}, {fold.name}: dual-averaging, 20 steps, at {given.sparsity:g} of the "
          f"elements and epsilon {given.epsilon:g}")  # fmt: skip
    print("| training | UAR | ASR | 95 % | CPU seconds |\n|---|--:|--:|--:|--:|")
    for name, plan in (("plain", None), ("hardened", hardening)):
        started = time.process_time()
        victim = ss.train(store, fold, given.head, adversarial=plan, epochs=given.epochs)
        seconds = time.process_time() - started
        asr, low, high = success_rate(victim, store, fold.test, strong, budget)
        print(
            f"| {name} | {victim.card.metrics['test']['uar']:.3f} | {asr:.3f} | "
            f"{low:.3f} to {high:.3f} | {seconds:.0f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
