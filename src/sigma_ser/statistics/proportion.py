"""Confidence intervals of proportions.

The percentile bootstrap of a proportion has zero width where no or all utterances are
misclassified: 0 of 20 would be reported as 0 to 0 %. The score interval is not degenerate there
and keeps its coverage in small samples (Wilson 1927; Brown, Cai, DasGupta 2001), so rates use it;
means use the bootstrap.

Attacks on the same utterance under other seeds are not independent trials. The design effect of
Rao & Scott (1992) converts them to an effective number of independent trials, at which Wilson's
interval is computed, as Korn & Graubard (1998) do for the exact interval.
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
    """Compute the Wilson score interval of each proportion `hits / trials`.

    Args:
        hits: `(N,)` number of successes.
        trials: `(N,)` number of trials.
        level: coverage, in (0, 1).
        effective: `(N,)` effective number of independent trials; `None` uses `trials`.

    Returns:
        Lower and upper ends `(N,)`, in [0, 1]; NaN where there are no trials.

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
    # The ends are exact here; rounding would miss them by 1e-17.
    low = np.where(hits == 0, 0.0, np.clip(centre - half, 0.0, 1.0))
    high = np.where(hits == trials, 1.0, np.clip(centre + half, 0.0, 1.0))
    return np.where(tried, low, np.nan), np.where(tried, high, np.nan)


def effective_trials(
    hits: Num[np.ndarray, "K"], trials: Num[np.ndarray, "K"], group: Int[np.ndarray, "K"]
) -> Float[np.ndarray, "N"]:
    """Compute the effective number of independent trials of each proportion.

    It is `trials / d` with the design effect `d` of Rao & Scott (1992): the variance of the ratio
    `sum(hits) / sum(trials)` over clusters, divided by the binomial variance. Their small-sample
    factor is omitted, so that clusters of one trial give the number of trials. `d` is at least 1.
    Where all or no trials succeed, the variance is not observable and the number of clusters is
    used.

    Args:
        hits: `(K,)` number of successes of each cluster (an utterance under all of its seeds).
        trials: `(K,)` number of trials of each cluster, at least 1.
        group: `(K,)` the proportion that each cluster belongs to, numbered from 0.

    Returns:
        `(N,)`, between the number of clusters and the number of trials of each proportion.

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
    # One trial for each utterance: exactly the number of trials, without rounding.
    effective: Float[np.ndarray, "N"] = np.where(
        tried == clusters, tried, tried / np.maximum(effect, 1)
    )
    return effective
