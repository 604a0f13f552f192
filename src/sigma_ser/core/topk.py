"""Exact top-k with a separate `k` for each row; ties are broken by position."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor

from .errors import AttackError

# Approximate number of values of a row from which its threshold is estimated.
_SAMPLE = 2048


def topk_support(
    scores: Float[Tensor, "B N"], k: Int[Tensor, "B"], allowed: Bool[Tensor, "B N"] | None = None
) -> Bool[Tensor, "B N"]:
    """The `k[i]` largest scores of row `i`; of equal scores, those that come first.

    Args:
        scores: finite `(B, N)`.
        k: integer `(B,)`, from 0 up; where fewer are allowed, all of these are taken.
        allowed: elements that may be chosen; `None` allows all.

    Returns:
        Boolean `(B, N)` with exactly `min(k[i], allowed[i].sum())` True in row `i`.

    Raises:
        AttackError: if an allowed score is NaN.
    """
    if scores.device.type == "cpu" and scores.dtype in (torch.float32, torch.float64):
        return _row_by_row(scores.detach(), k, allowed)
    return _all_at_once(scores, k, allowed)


def largest(
    values: Shaped[np.ndarray, "N"], k: int, bracket: tuple[Any, Any] | None = None
) -> Bool[np.ndarray, "N"]:
    """The `k` largest values of an array of numbers; of equal values, those that come first.

    Only the few values between two bounds are compared with each other. The bounds come from a
    sample, which is about ten times faster than a partial sort of all values. The result is exact:
    bounds that leave too few or too many candidates are not used.

    Args:
        values: numbers of any type, none of them NaN.
        k: at most `N`.
        bracket: a closed interval that contains the `k`-th largest value; `None` estimates one.

    Raises:
        AttackError: if a value is NaN.
    """
    # The minimum is NaN if any value is.
    if values.dtype.kind == "f" and len(values) and np.isnan(values.min()):
        raise _not_a_number()
    if not 0 < k < len(values):
        return np.full(len(values), k > 0)
    bounds = _sampled_bracket(values, k) if bracket is None else bracket
    chosen = None if bounds is None else _largest_between(values, k, *bounds)
    if chosen is None:
        chosen = _largest_between(values, k, values.min(), None)
        assert chosen is not None
    return chosen


def _not_a_number() -> AttackError:
    return AttackError(
        "scores of a selection are NaN, so their k largest are not defined; this is a fault of the "
        "attack or explainer that computed them, please report it"
    )


def _sampled_bracket(values: Shaped[np.ndarray, "N"], k: int) -> tuple[Any, Any] | None:
    """Bounds of the `k`-th largest value that very likely hold, the upper one only if useful."""
    # An odd stride visits all channels of features with an even number of channels.
    stride = max(1, len(values) // _SAMPLE) | 1
    sample = values[::stride].copy()
    expected = k * len(sample) / len(values)
    spread = 3 * expected**0.5
    below = int(expected + spread) + 2
    if stride == 1 or below >= len(sample):
        return None
    sample.partition(len(sample) - below)
    upper = sample[len(sample) - below :]
    above = int(expected - spread) - 1
    # Where few are chosen, a second bound costs more than it saves.
    if above < _SAMPLE // 32:
        return upper[0], None
    low = upper[0]
    upper.partition(below - above)
    return low, upper[below - above]


def _largest_between(
    values: Shaped[np.ndarray, "N"], k: int, low: Any, high: Any | None
) -> Bool[np.ndarray, "N"] | None:
    """The `k` largest, if the `k`-th lies in `[low, high]`; `None` if it does not."""
    inside = values >= low
    if high is None:
        chosen = np.zeros(len(values), dtype=bool)
    else:
        chosen = values > high
        k -= int(np.count_nonzero(chosen))
        inside ^= chosen
    candidates = np.flatnonzero(inside)
    if not 0 < k <= len(candidates):
        return None
    near = values[candidates]
    threshold = np.partition(near, len(near) - k)[len(near) - k]
    first = near > threshold
    tied = np.flatnonzero(near == threshold)
    first[tied[: k - np.count_nonzero(first)]] = True
    chosen[candidates[first]] = True
    return chosen


def _row_by_row(
    scores: Float[Tensor, "B N"], k: Int[Tensor, "B"], allowed: Bool[Tensor, "B N"] | None
) -> Bool[Tensor, "B N"]:
    """On the processor: rows stay in its cache, and numpy selects with vector instructions."""
    chosen = np.zeros(tuple(scores.shape), dtype=bool)
    counts = k.tolist()
    open_to = None if allowed is None else allowed.numpy()
    for row, values in enumerate(scores.numpy()):
        if open_to is None or open_to[row].all():
            chosen[row] = largest(values, counts[row])
            continue
        count = np.count_nonzero(open_to[row])
        if open_to[row, :count].all():  # only padding is excluded, so a slice is enough
            chosen[row, :count] = largest(values[:count], counts[row])
        else:
            places = np.flatnonzero(open_to[row])
            chosen[row, places[largest(values[places], counts[row])]] = True
    return torch.from_numpy(chosen)


def _all_at_once(
    scores: Float[Tensor, "B N"], k: Int[Tensor, "B"], allowed: Bool[Tensor, "B N"] | None
) -> Bool[Tensor, "B N"]:
    """On an accelerator: one `topk` of the largest `k`, and a threshold for each row."""
    if scores.numel() == 0:
        return torch.zeros_like(scores, dtype=torch.bool)
    if allowed is not None:
        scores = scores.masked_fill(~allowed, -torch.inf)
    if bool(torch.isnan(scores).any()):
        raise _not_a_number()
    most = int(k.max())
    if most <= 0:
        return torch.zeros_like(scores, dtype=torch.bool)
    most = min(most, scores.shape[1])
    leaders = torch.topk(scores, most, dim=1).values
    last = (k.clamp(1, most) - 1)[:, None]
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
