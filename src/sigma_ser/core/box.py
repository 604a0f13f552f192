"""The range that inputs of a victim must stay in, such as full scale of audio."""

from __future__ import annotations

import math
from typing import Any

from .errors import VictimError

Box = tuple[float | int, float | int]
"""The smallest and the largest value of an input."""


def box_of(victim: Any) -> Box | None:
    """The box of a victim; `None` if its inputs are unbounded or it does not state one.

    Raises:
        VictimError: if its `box` is not a pair of numbers, the smaller one first.
    """
    return checked_box(getattr(victim, "box", None))


def checked_box(box: Any) -> Box | None:
    """A box as two floats.

    Raises:
        VictimError: if it is not a pair of numbers, the smaller one first.

    >>> checked_box((-1, 1))
    (-1.0, 1.0)
    """
    if box is None:
        return None
    try:
        low, high = (float(limit) for limit in box)
    except (TypeError, ValueError) as fault:
        raise _wrong(box) from fault
    if not low < high or math.isnan(low + high):
        raise _wrong(box)
    return low, high


def _wrong(box: Any) -> VictimError:
    return VictimError(
        f"the box of a victim is a pair (smallest, largest value), such as (-1, 1), got {box!r}"
    )
