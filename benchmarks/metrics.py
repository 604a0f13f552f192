"""Consistency metrics beside the loops of scipy, scikit-image and quantus.

    python benchmarks/metrics.py [--utterances 64] [--frames 100] [--channels 768] [--out FILE.json]

The same maps, the same numbers to 1e-4 (checked; quantus adds 1e-7 to every element). The peer
goes utterance by utterance, as it can only do. Timed in turns, processor time of one thread,
medians over rounds.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from measuring import in_turns, ratio, record, verdict, write_records
from sigma_ser.core.budget import Budget
from sigma_ser.evaluate.consistency.rank import kendall, spearman
from sigma_ser.evaluate.consistency.sets import topk_intersection
from sigma_ser.evaluate.consistency.shape import centre_shift, cosine, ssim_time
from sigma_ser.evaluate.quality.shape import complexity, gini
from sigma_ser.masks.topk import topk_mask


def each(a: Tensor, b: Tensor, of: Callable[[np.ndarray, np.ndarray], Any]) -> np.ndarray:
    """A peer's loop over utterances."""
    return np.array([float(of(x, y)) for x, y in zip(a.numpy(), b.numpy(), strict=True)])


def peers(a: Tensor, b: Tensor, lengths: Tensor) -> dict[str, tuple[str, Any, Any]]:
    """By metric: whose loop it is, ours, theirs."""
    import quantus
    from scipy import spatial, stats
    from skimage.metrics import structural_similarity

    budget = Budget(sparsity=0.01)
    k = int(budget.units(lengths, a.shape[2])[0])
    quiet = {"disable_warnings": True, "normalise": False}
    sparseness, entropy = quantus.Sparseness(**quiet), quantus.Complexity(**quiet)
    maps = a.numpy()

    def top(x: np.ndarray) -> set[int]:
        return set(np.argsort(-x.ravel(), kind="stable")[:k].tolist())

    def centre(x: np.ndarray) -> float:
        return float(np.average(np.arange(len(x)) * 0.02, weights=x.sum(1)))

    def similarity(x: np.ndarray, y: np.ndarray) -> float:
        p, q = x.sum(1, dtype=np.float64), y.sum(1, dtype=np.float64)
        found = structural_similarity(
            p, q, data_range=max(p.max(), q.max()), gaussian_weights=True,
            sigma=1.5, use_sample_covariance=False,
        )  # fmt: skip
        return float(found)

    def topk() -> Tensor:
        return topk_intersection(topk_mask(a, lengths, budget), topk_mask(b, lengths, budget))

    return {
        "spearman": (
            "scipy.stats.spearmanr",
            lambda: spearman(a, b, lengths),
            lambda: each(a, b, lambda x, y: stats.spearmanr(x.ravel(), y.ravel()).statistic),
        ),
        "kendall": (
            "scipy.stats.kendalltau of time profiles",
            lambda: kendall(a, b, lengths),
            lambda: each(
                a, b,
                lambda x, y: stats.kendalltau(
                    x.sum(1, dtype=np.float64), y.sum(1, dtype=np.float64)
                ).statistic,
            ),
        ),
        "cosine": (
            "scipy.spatial.distance.cosine",
            lambda: cosine(a, b, lengths),
            lambda: each(a, b, lambda x, y: 1 - spatial.distance.cosine(x.ravel(), y.ravel())),
        ),
        "topk_intersection": (
            "numpy argsort",
            topk,
            lambda: each(a, b, lambda x, y: len(top(x) & top(y)) / k),
        ),
        "centre_shift": (
            "numpy.average",
            lambda: centre_shift(a, b, lengths, 0.02),
            lambda: each(a, b, lambda x, y: abs(centre(x) - centre(y))),
        ),
        "ssim_time": (
            "scikit-image",
            lambda: ssim_time(a, b, lengths),
            lambda: each(a, b, similarity),
        ),
        "gini": (
            "quantus Sparseness",
            lambda: gini(a, lengths),
            lambda: np.array(sparseness.evaluate_batch(x_batch=maps, a_batch=maps.copy())),
        ),
        "complexity": (
            "quantus Complexity",
            lambda: complexity(a, lengths),
            lambda: np.array(entropy.evaluate_batch(x_batch=maps, a_batch=maps.copy())),
        ),
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--utterances", type=int, default=64)
    parser.add_argument("--frames", type=int, default=100)
    parser.add_argument("--channels", type=int, default=768)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    rng = torch.Generator().manual_seed(0)
    shape = (options.utterances, options.frames, options.channels)
    a, b = torch.rand(shape, generator=rng), torch.rand(shape, generator=rng)
    lengths = torch.full((options.utterances,), options.frames)
    found = []
    print("| metric | peer's loop | ours ms | theirs ms | times faster | target |\n"
          "|---|---|--:|--:|--:|---|")  # fmt: skip
    for name, (peer, ours, theirs) in peers(a, b, lengths).items():
        gap = float(np.nanmax(np.abs(ours().numpy() - theirs())))
        if gap > 1e-4:
            raise SystemExit(f"{name} differs from {peer} by {gap}")
        mine, other = in_turns([ours, theirs], options.rounds)
        faster = ratio(other, mine)
        line = record(
            f"times faster, {name}", f"beside {peer}", faster, "x",
            at_least=3 if name == "spearman" else 10,
        )  # fmt: skip
        found.append(line)
        print(
            f"| `{name}` | {peer} | {1e3 * statistics.median(mine):.1f} "
            f"| {1e3 * statistics.median(other):.1f} | {faster} "
            f"| {line['target']} {verdict(line)} |",
            flush=True,
        )
    write_records(options.out, found)


if __name__ == "__main__":
    main()
