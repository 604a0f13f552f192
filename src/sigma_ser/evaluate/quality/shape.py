"""How concentrated a map is: sparseness and complexity."""

from __future__ import annotations

import math

import numpy as np
import torch
from jaxtyping import Float, Float64, Int
from torch import Tensor

from sigma_ser.evaluate.utterances import for_each_in_double, for_each_utterance


def gini(a: Float[Tensor, "B T D"], lengths: Int[Tensor, "B"]) -> Float64[Tensor, "B"]:
    """Gini index of the magnitudes (Chalasani et al. 2020, section 5).

    Args:
        a: the magnitude `|A(x)|`, finite, at least 0.
        lengths: valid frames `(B,)`.

    Returns:
        `(B,)` in [0, 1): 0 where all elements are equal, towards 1 where few hold everything; NaN
        where the map is all zero.
    """
    return for_each_utterance(_gini, lengths, a)


def complexity(a: Float[Tensor, "B T D"], lengths: Int[Tensor, "B"]) -> Float64[Tensor, "B"]:
    """Entropy of the shares of the magnitudes, in nats (Bhatt, Weller, Moura 2020, eq. 3).

    Arguments as :func:`gini`.

    Returns:
        `(B,)` from 0 (one element holds everything) to `log(T_i D)`; NaN where the map is all zero.
    """
    return for_each_in_double(_complexity, lengths, a)


def _gini(a: Float[Tensor, "T D"]) -> float:
    # numpy sorts with vector instructions, torch's CPU sort does not.
    ordered = np.sort(a.flatten().cpu().numpy())
    place = np.arange(1 - len(ordered), len(ordered), 2, dtype=np.float64)
    # Mean-free weights: with 2 i alone a long utterance would lose digits.
    total = float(ordered.sum(dtype=np.float64))
    return float(place.dot(ordered)) / (len(ordered) * total) if total else math.nan


def _complexity(a: Float64[Tensor, "T D"]) -> Float64[Tensor, ""]:
    """`log S - sum a log a / S`: the entropy of `a / S` in one logarithm for each element."""
    shares = a.div_(a.sum()).flatten()
    # 0 log 0 is 0; the clamp keeps the logarithm finite there.
    return -shares.dot(shares.clamp_min(torch.finfo(shares.dtype).tiny).log_())
