"""How concentrated a map is: sparseness and complexity."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float, Float64, Int
from torch import Tensor

from .utterances import for_each_utterance


def gini(a: Float[Tensor, "B T D"], lengths: Int[Tensor, "B"]) -> Float64[Tensor, "B"]:
    """Gini index of the magnitudes (Chalasani et al. 2020, section 5).

    Args:
        a: the magnitude `|A(x)|`, finite, at least 0.
        lengths: valid frames `(B,)`.

    Returns:
        `(B,)` in [0, 1): 0 where all elements are equal, towards 1 where few hold everything; NaN
        where the map is all zero.
    """
    return for_each_utterance(_gini, a, a, lengths)


def complexity(a: Float[Tensor, "B T D"], lengths: Int[Tensor, "B"]) -> Float64[Tensor, "B"]:
    """Entropy of the shares of the magnitudes, in nats (Bhatt, Weller, Moura 2020, eq. 3).

    Arguments as :func:`gini`.

    Returns:
        `(B,)` from 0 (one element holds everything) to `log(T_i D)`; NaN where the map is all zero.
    """
    return for_each_utterance(_complexity, a, a, lengths)


def _gini(a: Float[Tensor, "T D"], _: Float[Tensor, "T D"]) -> Float64[Tensor, ""]:
    # numpy sorts with vector instructions, torch's CPU sort does not.
    ordered = torch.from_numpy(np.sort(a.flatten().cpu().numpy())).double()
    place = torch.arange(1, len(ordered) + 1, dtype=torch.float64)
    # Mean-free weights: with 2 i alone a long utterance would lose digits.
    return (2 * place - len(ordered) - 1).dot(ordered) / (len(ordered) * ordered.sum())


def _complexity(a: Float[Tensor, "T D"], _: Float[Tensor, "T D"]) -> Float64[Tensor, ""]:
    values = a.double()
    entropy: Tensor = torch.special.entr(values / values.sum()).sum()
    return entropy
