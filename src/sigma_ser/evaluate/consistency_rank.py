"""Do two maps order the elements alike: Spearman over elements, Kendall over the time profile."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Bool, Float, Float64, Int, Int64
from torch import Tensor

from sigma_ser.core.features import valid_frames

# Above the bits of every finite float32 that is not negative: padding sorts last.
_LAST = 0x7FFFFFFF


def spearman(
    a: Float[Tensor, "B T D"], b: Float[Tensor, "B T D"], lengths: Int[Tensor, "B"]
) -> Float64[Tensor, "B"]:
    """Spearman's rank correlation over the valid elements, average ranks for ties.

    Args:
        a: the magnitude `|A(x)|` of one map, finite, at least 0.
        b: the magnitude of the other.
        lengths: valid frames `(B,)`.

    Returns:
        `(B,)` in [-1, 1]; NaN where a map is constant, as in `scipy.stats.spearmanr`.
    """
    valid = valid_frames(lengths, a.shape[1])[:, :, None].expand(a.shape).flatten(1)
    return _correlation(
        average_ranks(a.flatten(1), valid), average_ranks(b.flatten(1), valid), valid
    )


def kendall(
    a: Float[Tensor, "B T D"], b: Float[Tensor, "B T D"], lengths: Int[Tensor, "B"]
) -> Float64[Tensor, "B"]:
    """Kendall's tau-b between the time profiles (sums over channels).

    Arguments as :func:`spearman`. On profiles, because its cost is quadratic.

    Returns:
        `(B,)` in [-1, 1]; NaN where a profile is constant, as in `scipy.stats.kendalltau`.
    """
    taus = []
    for row, length in enumerate(lengths.tolist()):
        signs = [
            torch.sign(profile[:, None] - profile[None, :])
            for profile in (a[row, :length].double().sum(1), b[row, :length].double().sum(1))
        ]
        agreeing = (signs[0] * signs[1]).sum()
        taus.append(agreeing / (signs[0].abs().sum() * signs[1].abs().sum()).sqrt())
    return torch.stack(taus) if taus else a.new_zeros(0, dtype=torch.float64)


def average_ranks(
    values: Float[Tensor, "B N"], valid: Bool[Tensor, "B N"]
) -> Float64[Tensor, "B N"]:
    """Ranks from 1 among the valid values of a row, tied values sharing the mean of theirs.

    Args:
        values: finite, at least 0; read as float32.
        valid: which count; the others get the ranks behind.
    """
    rows, size = values.shape
    if values.numel() == 0:
        return torch.zeros(rows, size, dtype=torch.float64, device=values.device)
    # The bits of floats that are not negative order as they do, so value and position fit into
    # one integer, and integers sort several times faster than floats with their positions.
    bits = (values.float() + 0.0).contiguous().view(torch.int32).long().masked_fill(~valid, _LAST)
    keys = _sort(bits << 32 | torch.arange(size, device=values.device))
    position = keys & 0xFFFFFFFF
    bits = keys >> 32
    first = torch.ones_like(bits, dtype=torch.bool)
    torch.ne(bits[:, 1:], bits[:, :-1], out=first[:, 1:])
    starts = first.flatten().nonzero()[:, 0]
    ends = torch.cat([starts[1:], starts.new_tensor([rows * size])])
    shared = (starts % size + (ends - 1) % size).double() / 2 + 1
    ranks = shared if len(starts) == rows * size else shared.repeat_interleave(ends - starts)
    return torch.empty_like(ranks).view(rows, size).scatter_(1, position, ranks.view(rows, size))


def _sort(keys: Int64[Tensor, "B N"]) -> Int64[Tensor, "B N"]:
    if keys.device.type != "cpu":
        return keys.sort(1).values
    # numpy sorts integers with vector instructions, torch's CPU sort does not: 10 times faster.
    return torch.from_numpy(np.sort(keys.numpy(), axis=1))


def _correlation(
    a: Float64[Tensor, "B N"], b: Float64[Tensor, "B N"], valid: Bool[Tensor, "B N"]
) -> Float64[Tensor, "B"]:
    # Average ranks keep the mean of the ranks 1 ... n.
    mean = (valid.sum(1, keepdim=True).double() + 1) / 2
    a = (a - mean).masked_fill_(~valid, 0.0)
    b = (b - mean).masked_fill_(~valid, 0.0)
    norm = ((a * a).sum(1) * (b * b).sum(1)).sqrt()
    return ((a * b).sum(1) / norm).clamp(-1, 1)
