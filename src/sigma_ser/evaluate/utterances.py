"""Measures of maps, utterance by utterance: their valid frames alone, in the processor's cache.

A whole batch of maps is tens of megabytes, and every temporary of that size goes to memory and
back; those of one utterance do not. Copies in double precision lie in buffers that are used again:
fresh pages from the system would cost more than the sums.
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
    """A measure of maps `(T_i, D)` without padding, for each utterance.

    Args:
        measure: from as many maps as are given to one number.
        lengths: valid frames `(B,)`.
        maps: what is measured; a mask counts as one.
    """
    values = [
        float(measure(*(one[row, :length] for one in maps)))
        for row, length in enumerate(lengths.tolist())
    ]
    return torch.tensor(values, dtype=torch.float64, device=lengths.device)


def for_each_in_double(
    measure: Measure, lengths: Int[Tensor, "B"], *maps: Float[Tensor, "B T D"]
) -> Float64[Tensor, "B"]:
    """As :func:`for_each_utterance`, with copies in double precision that hold for one call."""
    copies = [in_double(one, lengths) for one in maps]
    values = [float(measure(*utterance)) for utterance in zip(*copies, strict=True)]
    return torch.tensor(values, dtype=torch.float64, device=lengths.device)


def in_double(
    a: Float[Tensor, "B T D"], lengths: Int[Tensor, "B"]
) -> Iterator[Float64[Tensor, "_ D"]]:
    """The valid frames of each utterance in double precision, each only until the next one."""
    buffer = a.new_empty(a.shape[1:], dtype=torch.float64)
    for row, length in enumerate(lengths.tolist()):
        yield buffer[:length].copy_(a[row, :length])


def time_profiles(a: Float[Tensor, "B T D"], lengths: Int[Tensor, "B"]) -> Float64[Tensor, "B T"]:
    """Sums over channels in double precision; zero on padding."""
    profiles = a.new_zeros(a.shape[:2], dtype=torch.float64)
    for profile, frames in zip(profiles, in_double(a, lengths), strict=True):
        torch.sum(frames, 1, out=profile[: len(frames)])
    return profiles
