"""Percentile bootstrap over utterances, seeded and vectorised (Efron & Tibshirani 1993, ch. 13)."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

import numpy as np
from jaxtyping import Float, Int

# Elements of a block of draws, 8 bytes each, of which a few arrays exist at a time. `_BLOCK` must
# not change: every block of `mean_intervals` has its own seed.
_DRAWN = 500_000
_BLOCK = 4_000_000
# Larger blocks are drawn again instead of being cached.
_KEPT = 1_000_000


def bootstrap_interval(
    statistic: Callable[[Float[np.ndarray, "R N"]], Float[np.ndarray, "R"]],
    size: int,
    *,
    level: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
) -> tuple[float, float]:
    """Compute the bootstrap percentile interval of a statistic that is a function of weights.

    Source: Efron & Tibshirani 1993, chapter 13.

    Args:
        statistic: maps weights `(R, N)`, how often each of the `N` samples was drawn, to `(R,)`
            values.
        size: number of samples `N`; 0 gives `(nan, nan)`.
        level: coverage, in (0, 1).
        resamples: number of bootstrap samples.
        seed: random seed.

    Returns:
        Lower and upper end.
    """
    if size == 0:
        return float("nan"), float("nan")
    rng = np.random.default_rng(seed)
    values = []
    rows_at_once = max(1, _DRAWN // size)
    for start in range(0, resamples, rows_at_once):
        rows = min(rows_at_once, resamples - start)
        drawn = rng.integers(size, size=(rows, size))
        drawn += np.arange(rows)[:, None] * size
        weights = np.bincount(drawn.ravel(), minlength=rows * size).reshape(rows, size)
        values.append(statistic(weights.astype(float)))
    tail = (1 - level) / 2
    low, high = np.quantile(np.concatenate(values), [tail, 1 - tail])
    return float(low), float(high)


def mean_intervals(
    values: Float[np.ndarray, "N M"],
    *,
    owner: Int[np.ndarray, "N"] | None = None,
    level: float = 0.95,
    resamples: int = 1000,
    seed: int = 0,
) -> tuple[Float[np.ndarray, "M"], Float[np.ndarray, "M"]]:
    """Compute the bootstrap percentile interval of the mean of each column, leaving out NaNs.

    All columns share the same draws. Where several rows belong to one utterance, utterances are
    resampled, each with all of its rows (Davison & Hinkley 1997, section 3.8; Field & Welsh 2007).

    Args:
        values: `(N, M)` samples of `M` quantities.
        owner: `(N,)` the utterance of each row, numbered from 0; `None` treats rows as independent.
        level: coverage, in (0, 1).
        resamples: number of bootstrap samples.
        seed: random seed.

    Returns:
        Lower and upper ends `(M,)`; NaN for a column without values.

    >>> low, high = mean_intervals(np.stack([np.arange(100.0), np.ones(100)], axis=1))
    >>> bool(low[0] < 49.5 < high[0]), float(low[1]), float(high[1])
    (True, 1.0, 1.0)
    """
    size, columns = values.shape
    if size == 0:
        return np.full(columns, np.nan), np.full(columns, np.nan)
    known = (~np.isnan(values)).astype(float)
    filled = np.where(known > 0, values, 0.0)
    if owner is not None:
        size = int(owner.max()) + 1
        known, filled = (_summed(one, owner, size) for one in (known, filled))
    means = []
    rows_at_once = max(1, _BLOCK // size)
    for start in range(0, resamples, rows_at_once):
        rows = min(rows_at_once, resamples - start)
        draws = _kept_draws if rows * size <= _KEPT else _draws
        weights = draws(size, rows, seed + start)
        counts = weights @ known
        means.append((weights @ filled) / np.where(counts > 0, counts, np.nan))
    tail = (1 - level) / 2
    ends = np.full((2, columns), np.nan)
    some = (known > 0).any(0)
    ends[:, some] = np.nanquantile(np.concatenate(means)[:, some], [tail, 1 - tail], axis=0)
    return ends[0], ends[1]


def _summed(
    values: Float[np.ndarray, "N M"], owner: Int[np.ndarray, "N"], size: int
) -> Float[np.ndarray, "K M"]:
    """The sum of the rows of each owner."""
    sums = np.zeros((size, values.shape[1]))
    np.add.at(sums, owner, values)
    return sums


def _draws(size: int, rows: int, seed: int) -> Float[np.ndarray, "R N"]:
    """Bootstrap weights: how often each sample is drawn in each resample."""
    rng = np.random.default_rng(seed)
    drawn = rng.integers(size, size=(rows, size))
    drawn += np.arange(rows)[:, None] * size
    weights = np.bincount(drawn.ravel(), minlength=rows * size).reshape(rows, size)
    return weights.astype(float)


# Most cells of a study have the same number of samples.
_kept_draws = lru_cache(maxsize=4)(_draws)


def mean_interval(
    values: Float[np.ndarray, "N"], *, level: float = 0.95, resamples: int = 2000, seed: int = 0
) -> tuple[float, float]:
    """Compute the bootstrap percentile interval of a mean, leaving out NaNs.

    Args:
        values: `(N,)` samples.
        level: coverage, in (0, 1).
        resamples: number of bootstrap samples.
        seed: random seed.

    Returns:
        Lower and upper end; NaN without values.

    >>> low, high = mean_interval(np.arange(100.0))
    >>> low < 49.5 < high
    True
    """
    known = values[~np.isnan(values)]
    return bootstrap_interval(
        lambda weights: weights @ known / len(known),
        len(known),
        level=level,
        resamples=resamples,
        seed=seed,
    )
