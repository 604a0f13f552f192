"""Paired comparison with several trials for each utterance: the sign-flip test."""

from __future__ import annotations

import numpy as np
from jaxtyping import Int


def sign_flip(differences: Int[np.ndarray, "N"]) -> float:
    """Two-sided p-value of the exact sign-flip test for equal success rates of two methods.

    Under the null hypothesis the difference of each utterance, summed over its seeds, is symmetric
    about zero: all `2^N` choices of the signs are equally likely (Fisher 1935; for exchangeable
    blocks, Winkler et al. 2015), and their distribution is computed exactly by convolution. With
    one seed for each utterance it is McNemar's exact test. Treating the seeds of an utterance as
    independent trials would give p-values that are too small (Obuchowski 1998; Durkalski et al.
    2003).

    Args:
        differences: `(N,)` for each utterance the number of successes of one method minus that of
            the other, over the seeds that both have.

    Returns:
        The p-value; 1 where all differences are zero.

    >>> round(sign_flip(np.array([1, 1, 1, 1, 1, 1, 0, 0])), 5), sign_flip(np.array([5]))
    (0.03125, 1.0)
    """
    from scipy.stats import binom

    sizes, counts = np.unique(np.abs(differences[differences != 0]), return_counts=True)
    # Probability of each value of the sum of the differences with a positive sign.
    probabilities = np.ones(1)
    for size, count in zip(sizes.tolist(), counts.tolist(), strict=True):
        steps = np.zeros(size * count + 1)
        steps[::size] = binom.pmf(np.arange(count + 1), count, 0.5)
        probabilities = np.convolve(probabilities, steps)
    sums = 2 * np.arange(len(probabilities)) - (len(probabilities) - 1)
    return float(min(1.0, probabilities[np.abs(sums) >= abs(int(differences.sum()))].sum()))
