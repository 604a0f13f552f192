"""Maps in half precision: rounding, magnitudes as bits, and order statistics.

The order statistics of a map (its marks) bound the k-th largest magnitude for any k.
"""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float, Float16, Int, Int16, UInt16
from torch import Tensor

# Number of intervals between the ranks whose magnitudes are stored.
_MARKS = 128


def rounded_to_half(
    ranked: Float[Tensor, "B T D"],
) -> tuple[Float16[Tensor, "B T D"], Float[Tensor, "B"]]:
    """Round maps to float16 relative to their peaks, since gradients may underflow in float16.

    Args:
        ranked: maps `(B, T, D)` that rank by magnitude.

    Returns:
        The maps divided by their peaks, in [-1, 1], and the peaks `(B,)`, 1 for a map of zeros.
    """
    peaks = ranked.abs().amax((1, 2))
    peaks = torch.where(peaks > 0, peaks, 1.0)
    return (ranked / peaks[:, None, None]).half(), peaks


def magnitudes(stored: Float16[Tensor, "T D"]) -> UInt16[np.ndarray, "N"]:
    """Return the bits of the magnitudes, which order as the magnitudes do."""
    bits: UInt16[np.ndarray, "N"] = stored.numpy().view(np.uint16).ravel() & 0x7FFF
    return bits


def marks_of(stored: Float16[Tensor, "T D"]) -> Int[Tensor, "129"]:
    """Return the magnitudes at evenly spaced ranks, the largest first, as bits."""
    # numpy sorts 32-bit integers with vector instructions on more machines than 16-bit integers.
    ordered = np.sort(magnitudes(stored).astype(np.int32))[::-1]
    ranks = np.arange(_MARKS + 1) * (len(ordered) - 1) // _MARKS
    return torch.from_numpy(ordered[ranks].astype(np.int16))


def bracket(marks: Int16[np.ndarray, "129"], size: int, k: int) -> tuple[int, int] | None:
    """Return two magnitudes, as bits, that bound the `k`-th largest magnitude of a map.

    Args:
        marks: the marks of the map.
        size: number of its elements.
        k: rank of the magnitude, from 1.

    Returns:
        Lower and upper bound; `None` where `k` selects no element or all of them.
    """
    if not 0 < k < size:
        return None
    at = (k - 1) * _MARKS // (size - 1)
    return int(marks[min(at + 1, _MARKS)]), int(marks[at])
