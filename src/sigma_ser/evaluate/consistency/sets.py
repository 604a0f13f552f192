"""Do two maps choose the same elements: intersection and Jaccard index of their top-k sets."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float64
from torch import Tensor


def topk_intersection(
    first: Bool[Tensor, "B T D"], second: Bool[Tensor, "B T D"]
) -> Float64[Tensor, "B"]:
    """`|S & S'| / k` for two sets of `k` elements (Ghorbani, Abid, Zou 2019, section 2).

    Args:
        first: the top-k set of one map, not empty.
        second: that of the other, as large.

    Returns:
        `(B,)` in [0, 1].
    """
    return _sizes(first & second) / _sizes(first)


def iou(first: Bool[Tensor, "B T D"], second: Bool[Tensor, "B T D"]) -> Float64[Tensor, "B"]:
    """`|S & S'| / |S | S'|`, in [0, 1]; arguments as :func:`topk_intersection`."""
    return _sizes(first & second) / _sizes(first | second)


def _sizes(sets: Bool[Tensor, "B T D"]) -> Float64[Tensor, "B"]:
    # Row by row: along dimensions, torch turns every element into an integer first.
    sizes = [int(torch.count_nonzero(row)) for row in sets]
    return torch.tensor(sizes, dtype=torch.float64, device=sets.device)
