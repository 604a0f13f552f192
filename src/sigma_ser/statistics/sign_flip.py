"""Paired comparison where an utterance was tried more than once: signs flip by utterance."""

from __future__ import annotations

import numpy as np
from jaxtyping import Int


def sign_flip(differences: Int[np.ndarray, "N"]) -> float:
    """Two-sided p-value of the exact sign-flip test: do two methods succeed equally often?

    If they do, then each utterance might as well have fared the other way round, with all of its
    seeds together: all `2^N` choices of the signs are equally likely (Fisher 1935; for exchangeable
    blocks, Winkler et al. 2015), and their distribution is added up exactly. With one seed each it
    is McNemar's exact test; seeds of one utterance taken as trials of their own would make p-values
    too small (Obuchowski 1998; Durkalski et al. 2003).

    Args:
        differences: of each utterance, the successes of one method less those of the other over
            the seeds that both had.

    >>> round(sign_flip(np.array([1, 1, 1, 1, 1, 1, 0, 0])), 5), sign_flip(np.array([5]))
    (0.03125, 1.0)
    """
    from scipy.stats import binom

    sizes, counts = np.unique(np.abs(differences[differences != 0]), return_counts=True)
    chances = np.ones(1)  # of each sum of the differences that fall to the first method
    for size, count in zip(sizes.tolist(), counts.tolist(), strict=True):
        steps = np.zeros(size * count + 1)
        steps[::size] = binom.pmf(np.arange(count + 1), count, 0.5)
        chances = np.convolve(chances, steps)
    sums = 2 * np.arange(len(chances)) - (len(chances) - 1)
    return float(min(1.0, chances[np.abs(sums) >= abs(int(differences.sum()))].sum()))
