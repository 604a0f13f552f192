"""Rank correlation of two maps: Spearman over elements, Kendall over time profiles."""

from __future__ import annotations

import math

import numpy as np
import torch
from jaxtyping import Float, Float32, Float64, Int
from torch import Tensor

from sigma_ser.evaluate.utterances import for_each_utterance, time_profiles


def spearman(
    a: Float[Tensor, "B T D"], b: Float[Tensor, "B T D"], lengths: Int[Tensor, "B"]
) -> Float64[Tensor, "B"]:
    """Spearman's rank correlation over the valid elements, with average ranks for ties.

    Args:
        a: magnitudes `|A(x)|` of one map `(B, T, D)`, finite, at least 0.
        b: magnitudes of the other map `(B, T, D)`.
        lengths: valid frames `(B,)`.

    Returns:
        `(B,)` in [-1, 1]; NaN where a map is constant, as in `scipy.stats.spearmanr`.
    """
    ranks = [Ranks(a[0].numel()), Ranks(b[0].numel())]

    def measure(*pair: Float[Tensor, "T D"]) -> float:
        # Average ranks keep the mean of the ranks 1 ... n.
        middle = (pair[0].numel() + 1) / 2
        first, second = (
            one.of(x.flatten().float().cpu().numpy()) for one, x in zip(ranks, pair, strict=True)
        )
        first -= middle
        second -= middle
        return _cosine(first, second)

    return for_each_utterance(measure, lengths, a, b)


def kendall(
    a: Float[Tensor, "B T D"], b: Float[Tensor, "B T D"], lengths: Int[Tensor, "B"]
) -> Float64[Tensor, "B"]:
    """Kendall's tau-b between the time profiles (sums of magnitudes over channels).

    Args:
        a: magnitudes `|A(x)|` of one map `(B, T, D)`, finite, at least 0.
        b: magnitudes of the other map `(B, T, D)`.
        lengths: valid frames `(B,)`.

    Returns:
        `(B,)` in [-1, 1]; NaN where a profile is constant, as in `scipy.stats.kendalltau`.
    """
    from scipy.stats import kendalltau  # takes half a second to import

    profiles = zip(
        time_profiles(a, lengths), time_profiles(b, lengths), lengths.tolist(), strict=True
    )
    return lengths.new_tensor(
        [
            kendalltau(*(x[:n].cpu().numpy() for x in (p, q)), method="asymptotic").statistic
            if n > 1
            else math.nan  # scipy warns
            for p, q, n in profiles
        ],
        dtype=torch.float64,
    )


class Ranks:
    """Average ranks of the values of a map, computed in buffers that every map reuses.

    Args:
        size: number of values of the longest map.
    """

    def __init__(self, size: int) -> None:
        self._keys = np.empty(size, dtype=np.int64)
        self._position = np.arange(size, dtype=np.int64)
        self._sorted = np.empty(size, dtype=np.int64)
        self._first = np.ones(size, dtype=bool)
        self._plain = np.arange(1.0, size + 1)
        self._ranks = np.empty(size)

    def of(self, values: Float32[np.ndarray, "N"]) -> Float64[np.ndarray, "N"]:
        """Rank the values from 1 upwards; tied values get the mean of their ranks.

        Args:
            values: `(N,)`, finite, at least 0.

        Returns:
            Ranks `(N,)` in a buffer that the next call overwrites.
        """
        # Non-negative floats order as their bit patterns do, so value and position fit into one
        # integer. numpy sorts integers with vector instructions, 2.5 times as fast as argsort.
        size = len(values)
        keys, position, first = self._keys[:size], self._sorted[:size], self._first[:size]
        keys[:] = (values + np.float32(0.0)).view(np.int32)
        keys <<= 32
        keys |= self._position[:size]
        keys.sort()
        np.bitwise_and(keys, 0xFFFFFFFF, out=position)
        keys >>= 32
        np.not_equal(keys[1:], keys[:-1], out=first[1:])
        ordered = self._plain[:size]
        if not first.all():
            starts = np.flatnonzero(first)
            ends = np.append(starts[1:], size)
            ordered = np.repeat((starts + ends + 1) / 2, ends - starts)
        ranks = self._ranks[:size]
        ranks[position] = ordered
        return ranks


def _cosine(a: Float64[np.ndarray, "N"], b: Float64[np.ndarray, "N"]) -> float:
    norm = math.sqrt(a.dot(a)) * math.sqrt(b.dot(b))
    return min(1.0, max(-1.0, float(a.dot(b)) / norm)) if norm else math.nan
