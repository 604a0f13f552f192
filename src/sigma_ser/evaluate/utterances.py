"""Measures of maps, one utterance at a time, on valid frames only.

A batch of maps has tens of megabytes, so each temporary of that size goes through main memory,
while those of one utterance stay in the processor's cache. Copies in double precision are written
to a buffer that is reused, because allocating new pages would take longer than the sums.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from jaxtyping import Float, Float64, Int, Shaped
from torch import Tensor

Measure = Callable[..., float | Tensor]


def for_each_utterance(
    measure: Measure, lengths: Int[Tensor, "B"], *maps: Shaped[Tensor, "B T D"]
) -> Float64[Tensor, "B"]:
    """Apply a measure to the maps `(T_i, D)` of each utterance, without padding.

    Args:
        measure: function of as many maps as are given, which returns one number.
        lengths: valid frames `(B,)`.
        *maps: maps or masks `(B, T, D)`.

    Returns:
        `(B,)` values of the measure.
    """
    values = [
        float(measure(*(one[row, :length] for one in maps)))
        for row, length in enumerate(lengths.tolist())
    ]
    return torch.tensor(values, dtype=torch.float64, device=lengths.device)


def for_each_in_double(
    measure: Measure, lengths: Int[Tensor, "B"], *maps: Float[Tensor, "B T D"]
) -> Float64[Tensor, "B"]:
    """Apply a measure to copies of the maps in double precision.

    Args:
        measure: function of as many maps as are given, which returns one number; it may overwrite
            its arguments, which exist for one call only.
        lengths: valid frames `(B,)`.
        *maps: maps `(B, T, D)`.

    Returns:
        `(B,)` values of the measure.
    """
    copies = [in_double(one, lengths) for one in maps]
    values = [float(measure(*utterance)) for utterance in zip(*copies, strict=True)]
    return torch.tensor(values, dtype=torch.float64, device=lengths.device)


def in_double(
    a: Float[Tensor, "B T D"], lengths: Int[Tensor, "B"]
) -> Iterator[Float64[Tensor, "_ D"]]:
    """Yield the valid frames of each utterance in double precision, in one reused buffer."""
    buffer = a.new_empty(a.shape[1:], dtype=torch.float64)
    for row, length in enumerate(lengths.tolist()):
        yield buffer[:length].copy_(a[row, :length])


def time_profiles(a: Float[Tensor, "B T D"], lengths: Int[Tensor, "B"]) -> Float64[Tensor, "B T"]:
    """Sum a map over channels in double precision.

    Args:
        a: a map `(B, T, D)`.
        lengths: valid frames `(B,)`.

    Returns:
        `(B, T)`, zero on padding.
    """
    profiles = a.new_zeros(a.shape[:2], dtype=torch.float64)
    for profile, frames in zip(profiles, in_double(a, lengths), strict=True):
        torch.sum(frames, 1, out=profile[: len(frames)])
    return profiles
