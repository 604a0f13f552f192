"""Exact top-k with a `k` of its own in each row and ties broken by position, by `topk` alone."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor


def topk_support(
    scores: Float[Tensor, "B N"], k: Int[Tensor, "B"], allowed: Bool[Tensor, "B N"] | None = None
) -> Bool[Tensor, "B N"]:
    """The `k[i]` largest scores of row `i`; of equal scores, those that come first.

    Args:
        scores: finite `(B, N)`.
        k: integer `(B,)`, from 0 up; where fewer are allowed, all of these are taken.
        allowed: what may be chosen at all; `None` allows everything.

    Returns:
        Boolean `(B, N)` with exactly `min(k[i], allowed[i].sum())` True in row `i`.
    """
    if scores.numel() == 0:
        return torch.zeros_like(scores, dtype=torch.bool)
    if allowed is not None:
        scores = scores.masked_fill(~allowed, -torch.inf)
    largest = int(k.max())
    if largest <= 0:
        return torch.zeros_like(scores, dtype=torch.bool)
    largest = min(largest, scores.shape[1])
    leaders = torch.topk(scores, largest, dim=1).values
    last = (k.clamp(1, largest) - 1)[:, None]
    threshold = leaders.gather(1, last)
    chosen = scores > threshold
    tied = scores == threshold
    missing = k[:, None] - chosen.sum(1, keepdim=True)
    # A running count over all N is only needed where more are tied than still fit.
    if bool((tied.sum(1, keepdim=True) > missing).any()):
        tied &= tied.cumsum(1) <= missing
    chosen |= tied
    if allowed is not None:
        chosen &= allowed
    if bool((k <= 0).any()):
        chosen &= (k > 0)[:, None]
    return chosen
