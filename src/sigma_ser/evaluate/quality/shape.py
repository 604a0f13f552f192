"""Concentration of a map: Gini index and entropy."""

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
        a: magnitudes `|A(x)|` `(B, T, D)`, finite, at least 0.
        lengths: valid frames `(B,)`.

    Returns:
        `(B,)` in [0, 1): 0 where all elements are equal, close to 1 where few elements hold most
        of the magnitude; NaN where the map is all zero.
    """
    return for_each_utterance(_gini, lengths, a)


def complexity(a: Float[Tensor, "B T D"], lengths: Int[Tensor, "B"]) -> Float64[Tensor, "B"]:
    """Entropy of the relative magnitudes (Bhatt, Weller, Moura 2020, eq. 3).

    Args:
        a: magnitudes `|A(x)|` `(B, T, D)`, finite, at least 0.
        lengths: valid frames `(B,)`.

    Returns:
        `(B,)` in nats, from 0 (one non-zero element) to `log(T_i D)`; NaN where the map is all
        zero.
    """
    return for_each_in_double(_complexity, lengths, a)


def _gini(a: Float[Tensor, "T D"]) -> float:
    # numpy sorts with vector instructions, torch's CPU sort does not.
    ordered = np.sort(a.flatten().cpu().numpy())
    place = np.arange(1 - len(ordered), len(ordered), 2, dtype=np.float64)
    # Weights with mean zero: plain weights 2 i would lose digits on a long utterance.
    total = float(ordered.sum(dtype=np.float64))
    return float(place.dot(ordered)) / (len(ordered) * total) if total else math.nan


def _complexity(a: Float64[Tensor, "T D"]) -> Float64[Tensor, ""]:
    # In place: the copy in double precision belongs to this call.
    entropy: Tensor = torch.special.entr(a.div_(a.sum())).sum()
    return entropy
