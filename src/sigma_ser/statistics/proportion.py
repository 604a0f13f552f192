"""Intervals of a share of utterances.

A percentile bootstrap of a share collapses to a point where none or all of the utterances fell:
0 of 20 would read "0 to 0 %". The score interval does not, and holds its coverage in small
samples (Wilson 1927; Brown, Cai, DasGupta 2001), so rates use it; means use the bootstrap.

An utterance that is attacked again under other seeds is no new utterance: its trials are worth as
many independent ones as their design effect says (Rao & Scott 1992), and Wilson's interval is taken
at that number, as Korn & Graubard (1998) do with the exact one.
"""

from __future__ import annotations

from statistics import NormalDist

import numpy as np
from jaxtyping import Float, Int, Num


def wilson_interval(
    hits: Num[np.ndarray, "N"],
    trials: Num[np.ndarray, "N"],
    *,
    level: float = 0.95,
    effective: Float[np.ndarray, "N"] | None = None,
) -> tuple[Float[np.ndarray, "N"], Float[np.ndarray, "N"]]:
    """Wilson score interval of each `hits / trials`; NaN where there was no trial.

    `effective` is how many independent trials they are worth; `None`: as many as there are.

    >>> low, high = wilson_interval(np.array([0]), np.array([20]))
    >>> float(low[0]), round(float(high[0]), 3)
    (0.0, 0.161)
    """
    z = NormalDist().inv_cdf((1 + level) / 2)
    tried = trials > 0
    p = hits / np.where(tried, trials, 1)
    n = np.where(tried, trials if effective is None else effective, 1).astype(float)
    centre = (p + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * np.sqrt(p * (1 - p) / n + z**2 / (4 * n**2))
    # Exact ends, which rounding would miss by 1e-17.
    low = np.where(hits == 0, 0.0, np.clip(centre - half, 0.0, 1.0))
    high = np.where(hits == trials, 1.0, np.clip(centre + half, 0.0, 1.0))
    return np.where(tried, low, np.nan), np.where(tried, high, np.nan)


def effective_trials(
    hits: Num[np.ndarray, "K"], trials: Num[np.ndarray, "K"], group: Int[np.ndarray, "K"]
) -> Float[np.ndarray, "N"]:
    """How many independent trials the repeated ones of each group are worth.

    `trials / d` with the design effect `d` of Rao & Scott (1992), the variance of the
    ratio `sum(hits) / sum(trials)` over clusters against the binomial one; without their small
    sample factor, so that clusters of one trial give the trials themselves. `d` is at least 1.
    Where all or none were hit no variance is seen: a group is then worth its clusters.

    Args:
        hits: of each cluster (an utterance, under all of its seeds).
        trials: of each cluster, at least 1.
        group: to which proportion, from 0, each cluster belongs.

    >>> whole, split = np.array([3, 0, 3, 0]), np.array([1, 2, 2, 1])
    >>> tried, one = np.full(4, 3), np.zeros(4, dtype=int)
    >>> effective_trials(whole, tried, one), effective_trials(split, tried, one)
    (array([4.]), array([12.]))
    """
    count = int(group.max(initial=-1)) + 1

    def total(values: Num[np.ndarray, "K"]) -> Float[np.ndarray, "N"]:
        return np.bincount(group, weights=values, minlength=count).astype(float)

    hit, tried, clusters = total(hits), total(trials), total(np.ones(len(group)))
    share = hit / tried
    spread = total((hits - share[group] * trials) ** 2)
    binomial = tried * share * (1 - share)
    effect = np.where(binomial > 0, spread / np.where(binomial > 0, binomial, 1), tried / clusters)
    # Utterances that were tried once each are worth themselves, to the last digit.
    effective: Float[np.ndarray, "N"] = np.where(
        tried == clusters, tried, tried / np.maximum(effect, 1)
    )
    return effective
