"""Attacks on whole frames, channels and segments, with Sparse-PGD's structured version among them.

    python benchmarks/structures.py --out FILE --data tess=STORE:HEADS [--heads mlp cnn]
        [--utterances 24] [--sparsity 0.05] [--epsilon 0.5]

STORE and HEADS are those of `heads.py`. All attacks share victims, utterances and budgets.
FILE receives one JSON record a line: success, its Wilson interval and passes for each utterance.
Cells that are there are not computed again.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch

import sigma_ser as ss
from sigma_ser.statistics.proportion import wilson_interval
from strength import questions

ATTACKS: dict[str, tuple[str, dict[str, Any]]] = {
    "dual-averaging": ("dual-averaging", {}),
    "spgd, structured": ("spgd", {"structured": True}),
    "spgd, sums over elements": ("spgd", {}),
    "oneshot": ("oneshot", {}),
    "random": ("random", {}),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--data", nargs="+", required=True, help="NAME=STORE:HEADS")
    parser.add_argument("--heads", nargs="+", default=["mlp", "cnn", "transformer"])
    parser.add_argument("--granularity", nargs="+", default=["frame", "channel", "segment"])
    parser.add_argument("--utterances", type=int, default=24)
    parser.add_argument("--sparsity", type=float, default=0.05)
    parser.add_argument("--epsilon", type=float, default=0.5)
    options = parser.parse_args()
    torch.set_num_threads(1)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    kept = options.out.read_text("utf-8").splitlines() if options.out.exists() else []
    done = {tuple(json.loads(line)["key"]) for line in kept}
    for one in questions(options.data, options.heads, options.utterances):
        for granularity in options.granularity:
            budget = ss.Budget(
                sparsity=options.sparsity, epsilon=options.epsilon, granularity=granularity
            )
            for title, (name, settings) in ATTACKS.items():
                key = (one.key, granularity, title, str(options.sparsity), str(options.epsilon))
                if key in done:
                    continue
                found = ss.make_attack(name, **settings)(one.victim, one.batch, one.labels, budget)
                hits, count = int(found.success.sum()), len(one.batch)
                low, high = wilson_interval(np.array([hits]), np.array([count]))
                passes = (found.forwards + found.backwards).double().mean()
                line = {
                    "key": key, "corpus": one.corpus, "head": one.head, "attack": title,
                    "granularity": granularity, "utterances": count, "asr": hits / count,
                    "low": round(float(low[0]), 3), "high": round(float(high[0]), 3),
                    "passes": round(float(passes), 1),
                }  # fmt: skip
                with options.out.open("a", encoding="utf-8") as file:
                    file.write(json.dumps(line) + "\n")
                print(
                    one.corpus, one.head, granularity, title, line["asr"], line["passes"],
                    flush=True,
                )  # fmt: skip


if __name__ == "__main__":
    main()
