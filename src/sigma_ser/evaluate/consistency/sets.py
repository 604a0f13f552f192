"""Overlap of the top-k sets of two maps: intersection and Jaccard index."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float64
from torch import Tensor


def topk_intersection(
    first: Bool[Tensor, "B T D"], second: Bool[Tensor, "B T D"]
) -> Float64[Tensor, "B"]:
    """`|S & S'| / k` for two sets of `k` elements (Ghorbani, Abid, Zou 2019, section 2).

    Args:
        first: the top-k set of one map `(B, T, D)`, not empty.
        second: the top-k set of the other map `(B, T, D)`, of the same size.

    Returns:
        `(B,)` in [0, 1].
    """
    return _sizes(first & second) / _sizes(first)


def iou(first: Bool[Tensor, "B T D"], second: Bool[Tensor, "B T D"]) -> Float64[Tensor, "B"]:
    """Jaccard index `|S & S'| / |S | S'|` of two sets of elements.

    Args:
        first: the top-k set of one map `(B, T, D)`, not empty.
        second: the top-k set of the other map `(B, T, D)`.

    Returns:
        `(B,)` in [0, 1].
    """
    return _sizes(first & second) / _sizes(first | second)


def _sizes(sets: Bool[Tensor, "B T D"]) -> Float64[Tensor, "B"]:
    # Row by row: a sum along dimensions would convert every element to an integer first.
    sizes = [int(torch.count_nonzero(row)) for row in sets]
    return torch.tensor(sizes, dtype=torch.float64, device=sets.device)
