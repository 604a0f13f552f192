"""Paired comparison of two attacks on the same utterances, and Holm's correction for many."""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float, Num


def mcnemar(first: Bool[np.ndarray, "N"], second: Bool[np.ndarray, "N"]) -> float:
    """Two-sided p-value of McNemar's exact test for equal success rates (McNemar 1947).

    Args:
        first: `(N,)` success of one attack on each utterance.
        second: `(N,)` success of the other attack on the same utterances.

    Returns:
        The p-value; 1 where the two never differ.

    >>> mcnemar(np.array([True] * 6), np.array([False] * 6))
    0.03125
    """
    only_first, only_second = (first & ~second).sum(), (second & ~first).sum()
    return float(mcnemar_counts(np.array([only_first]), np.array([only_second]))[0])


def mcnemar_counts(
    only_first: Num[np.ndarray, "N"], only_second: Num[np.ndarray, "N"]
) -> Float[np.ndarray, "N"]:
    """P-values of McNemar's exact test from counts, for many pairs of attacks at once.

    Args:
        only_first: `(N,)` number of utterances on which only the first attack succeeds.
        only_second: `(N,)` number of utterances on which only the second attack succeeds.

    Returns:
        Two-sided p-values `(N,)`; 1 where the two never differ.

    >>> mcnemar_counts(np.array([6, 0]), np.array([0, 0])).tolist()
    [0.03125, 1.0]
    """
    from scipy.stats import binom

    fewer, differ = np.minimum(only_first, only_second), only_first + only_second
    p: Float[np.ndarray, "N"] = np.minimum(1.0, 2 * binom.cdf(fewer, differ, 0.5))
    return np.where(differ > 0, p, 1.0)


def holm(p_values: Float[np.ndarray, "N"]) -> Float[np.ndarray, "N"]:
    """Adjust p-values for the family-wise error rate (Holm 1979).

    Args:
        p_values: `(N,)`, in [0, 1].

    Returns:
        Adjusted p-values `(N,)` in the order of the input.

    >>> holm(np.array([0.01, 0.04, 0.03])).round(3).tolist()
    [0.03, 0.06, 0.06]
    """
    order = np.argsort(p_values, kind="stable")
    stepped = p_values[order] * np.arange(len(p_values), 0, -1)
    adjusted = np.empty(len(p_values))
    adjusted[order] = np.minimum(1.0, np.maximum.accumulate(stepped))
    return adjusted
