"""How concentrated a map is: sparseness and complexity."""

from __future__ import annotations

import torch
from jaxtyping import Float, Float64, Int
from torch import Tensor

from sigma_ser.core.features import valid_frames


def gini(a: Float[Tensor, "B T D"], lengths: Int[Tensor, "B"]) -> Float64[Tensor, "B"]:
    """Gini index of the magnitudes (Chalasani et al. 2020, section 5).

    Args:
        a: the magnitude `|A(x)|`, finite, at least 0.
        lengths: valid frames `(B,)`.

    Returns:
        `(B,)` in [0, 1): 0 where all elements are equal, towards 1 where few hold everything; NaN
        where the map is all zero.
    """
    valid = valid_frames(lengths, a.shape[1])[:, :, None].expand(a.shape).flatten(1)
    # Padding sorts last and weighs nothing.
    values = a.double().flatten(1).masked_fill(~valid, torch.inf).sort(1).values
    values = values.masked_fill(torch.isinf(values), 0.0)
    count = valid.sum(1, keepdim=True).double()
    place = torch.arange(1, values.shape[1] + 1, device=a.device)[None, :]
    return ((2 * place - count - 1) * values).sum(1) / (count[:, 0] * values.sum(1))


def complexity(a: Float[Tensor, "B T D"], lengths: Int[Tensor, "B"]) -> Float64[Tensor, "B"]:
    """Entropy of the shares of the magnitudes, in nats (Bhatt, Weller, Moura 2020, eq. 3).

    Arguments as :func:`gini`.

    Returns:
        `(B,)` from 0 (one element holds everything) to `log(T_i D)`; NaN where the map is all zero.
    """
    valid = valid_frames(lengths, a.shape[1])[:, :, None]
    values = a.double().masked_fill(~valid, 0.0).flatten(1)
    entropy: Tensor = torch.special.entr(values / values.sum(1, keepdim=True)).sum(1)
    return entropy
