"""How well scores separate attacked from clean inputs: AUROC, and rate at given false alarms."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

from sigma_ser.core.errors import ShapeError
from sigma_ser.statistics.bootstrap import bootstrap_interval
from sigma_ser.statistics.proportion import wilson_interval


@dataclass(frozen=True)
class Detection:
    """Figures of an alarm on one attack, each with the ends of its 95 % interval.

    Args:
        utterances: number of attacked inputs that count.
        auroc: probability that an attacked input scores higher than a clean one; ties count half.
        rate: share of attacked inputs above `threshold`.
        threshold: the smallest clean score that at most `false_alarms` of the clean ones exceed.
        false_alarms: share of the clean inputs above `threshold`.
    """

    utterances: int
    auroc: float
    auroc_low: float
    auroc_high: float
    rate: float
    rate_low: float
    rate_high: float
    threshold: float
    false_alarms: float


def detection(
    clean: Float[np.ndarray, "N"],
    attacked: Float[np.ndarray, "M"],
    counts: Bool[np.ndarray, "M"] | None = None,
    *,
    false_alarms: float = 0.05,
    seed: int = 0,
) -> Detection:
    """Compute AUROC, and the detection rate at a share of false alarms.

    The interval of the AUROC is a bootstrap over utterances, each with its clean and its attacked
    score together; that of the rate is Wilson's at the fixed threshold.

    Args:
        clean: scores of the clean utterances `(N,)`.
        attacked: scores of the same utterances after the attack `(N,)`.
        counts: `(N,)` whose attacked score counts, such as those of successful attacks; all by
            default. All clean scores count.
        false_alarms: the largest share of clean utterances above the threshold, in (0, 1).
        seed: of the bootstrap.

    Raises:
        ShapeError: if the scores differ in number, or none counts.

    >>> found = detection(np.arange(20.0), np.arange(20.0) + 30)
    >>> found.auroc, found.rate, found.false_alarms
    (1.0, 1.0, 0.05)
    """
    counts = np.ones(len(attacked), dtype=bool) if counts is None else counts
    if not len(clean) == len(attacked) == len(counts):
        raise ShapeError(
            f"an alarm is measured on the same utterances before and after an attack, got "
            f"{len(clean)} clean and {len(attacked)} attacked scores"
        )
    if not counts.any():
        raise ShapeError("no attacked utterance counts, so there is nothing to detect")
    above = (attacked[None, :] > clean[:, None]) + 0.5 * (attacked[None, :] == clean[:, None])
    kept = counts.astype(float)

    def auroc(weights: Float[np.ndarray, "R N"]) -> Float[np.ndarray, "R"]:
        chosen = weights * kept
        pairs = weights.sum(1) * chosen.sum(1)
        # A resample without an attacked utterance carries no information.
        hits = ((weights @ above) * chosen).sum(1)
        return np.where(pairs > 0, hits / np.where(pairs > 0, pairs, 1.0), 0.5)

    low, high = bootstrap_interval(auroc, len(clean), seed=seed)
    ordered = np.sort(clean)
    threshold = float(ordered[len(ordered) - 1 - int(false_alarms * len(ordered))])
    hits, trials = int((attacked[counts] > threshold).sum()), int(counts.sum())
    rate_low, rate_high = wilson_interval(np.array([hits]), np.array([trials]))
    return Detection(
        trials, float(auroc(np.ones((1, len(clean))))[0]), low, high,
        hits / trials, float(rate_low[0]), float(rate_high[0]),
        threshold, float((clean > threshold).mean()),
    )  # fmt: skip
