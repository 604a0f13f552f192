"""The worst split of a budget over frames or windows, bounded by Lagrangian duality."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

_STEPS = 40
# Bisections of the price in `worst_choice`, and where they start below the largest score.
_CHOICES = 16
_CHEAPEST = 1e-4


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


def worst_choice(
    levels: list[tuple[int, Float[Tensor, "J T W D"]]], shares: Float[Tensor, "W"], k: int
) -> Float[Tensor, "J"]:
    """Bound the largest sum of scores of the elements of overlapping windows.

    An element lies in several windows and has a score in each. A window counts a share of it, by
    its place in the window, and the shares of an element add up to 1 at most. For every price `p`
    of an element the sum over all windows is at most `p k` plus, for each window, the largest sum
    of scores minus `p` times the shares.

    Args:
        levels: numbers of elements, increasing, with the scores that hold while at most that
            number of elements of a window changes.
        shares: the part of an element that a window counts.
        k: number of elements that may change.

    Returns:
        An upper bound for each margin.
    """
    return torch.stack(
        [
            _worst_choice([(most, scores[row]) for most, scores in levels], shares, k)
            for row in range(len(levels[0][1]))
        ]
    )


def _worst_choice(
    levels: list[tuple[int, Float[Tensor, "T W D"]]], shares: Float[Tensor, "W"], k: int
) -> Tensor:
    high = max(float((scores / shares[:, None]).max()) for _, scores in levels)
    low, best = high * _CHEAPEST, torch.tensor(torch.inf, dtype=torch.float64)
    if high <= 0:
        return torch.zeros_like(best)
    for _ in range(_CHOICES):
        price = (low * high) ** 0.5
        gains, taken = zip(*(_chosen(one, shares, price) for one in levels), strict=True)
        gain, level = torch.stack(gains).max(0)
        best = torch.minimum(best, price * k + gain.sum())
        expensive = float(torch.stack(taken).gather(0, level[None]).sum()) <= k
        low, high = (low, price) if expensive else (price, high)
    return best


def _chosen(
    level: tuple[int, Float[Tensor, "T W D"]], shares: Float[Tensor, "W"], price: float
) -> tuple[Float[Tensor, "T"], Float[Tensor, "T"]]:
    """The largest sum of scores minus price in each window, and the elements that it counts."""
    most, scores = level
    gains = (scores - price * shares[:, None]).clamp_(min=0.0)
    positive = gains > 0
    taken = (positive.sum(2).double() * shares).sum(1)
    gain = gains.sum((1, 2))
    over = positive.sum((1, 2)) > most
    if bool(over.any()):
        top = gains[over].flatten(1).topk(most, dim=1)
        gain[over] = top.values.sum(1)
        taken[over] = shares[top.indices // scores.shape[2]].sum(1)
    return gain, taken
