"""The worst split of a budget over frames, bounded by Lagrangian duality."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

_STEPS = 40


def worst_split(damage: Float[Tensor, "J T N"], k: int) -> Float[Tensor, "J"]:
    """Bound the largest sum of `damage[t, n_t]` over all counts with `sum_t n_t <= k`.

    For every price `p >= 0` of an element the sum is at most
    `p k + sum_t max_n (damage[t, n] - p n)`. The smallest of these bounds, which is that of the
    concave majorants, is found by bisection on the price; each price gives a valid bound.

    Args:
        damage: non-negative float64, for each margin, frame and count; 0 for the count 0.
        k: number of elements that may change.

    Returns:
        An upper bound for each margin.
    """
    counts = torch.arange(damage.shape[2], dtype=damage.dtype)
    low = damage.new_zeros(len(damage))
    high = (damage[..., 1:] / counts[1:]).amax((1, 2)) if damage.shape[2] > 1 else low
    # Not more than every frame at its largest count.
    best = damage.amax(2).sum(1)
    for _ in range(_STEPS):
        price = (low + high) / 2
        gain, taken = (damage - price[:, None, None] * counts).max(2)
        best = torch.minimum(best, price * k + gain.sum(1))
        expensive = taken.sum(1) <= k
        high = torch.where(expensive, price, high)
        low = torch.where(expensive, low, price)
    return best
