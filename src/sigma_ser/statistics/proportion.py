"""Intervals of a share of utterances.

A percentile bootstrap of a share collapses to a point where none or all of the utterances fell:
0 of 20 would read "0 to 0 %". The score interval does not, and holds its coverage in small
samples (Wilson 1927; Brown, Cai, DasGupta 2001), so rates use it; means use the bootstrap.
"""

from __future__ import annotations

from statistics import NormalDist

import numpy as np
from jaxtyping import Float, Num


def wilson_interval(
    hits: Num[np.ndarray, "N"], trials: Num[np.ndarray, "N"], *, level: float = 0.95
) -> tuple[Float[np.ndarray, "N"], Float[np.ndarray, "N"]]:
    """Wilson score interval of each `hits / trials`; NaN where there was no trial.

    >>> low, high = wilson_interval(np.array([0]), np.array([20]))
    >>> float(low[0]), round(float(high[0]), 3)
    (0.0, 0.161)
    """
    z = NormalDist().inv_cdf((1 + level) / 2)
    tried = trials > 0
    n = np.where(tried, trials, 1).astype(float)
    p = hits / n
    centre = (p + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * np.sqrt(p * (1 - p) / n + z**2 / (4 * n**2))
    # Exact ends, which rounding would miss by 1e-17.
    low = np.where(hits == 0, 0.0, np.clip(centre - half, 0.0, 1.0))
    high = np.where(hits == trials, 1.0, np.clip(centre + half, 0.0, 1.0))
    return np.where(tried, low, np.nan), np.where(tried, high, np.nan)
