"""Optional limits of an attack: passes, seconds, and the observed range of the features."""

from __future__ import annotations

import time
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from sigma_ser.core.box import Box
from sigma_ser.core.errors import AttackError
from sigma_ser.core.features import FeatureBatch


class SearchEnded(Exception):
    """Control flow: ends a search when every utterance is misclassified or a limit is reached."""


@dataclass(frozen=True, eq=False)
class ObservedRange:
    """The range of each channel over the training features, as a constraint on attacks.

    Args:
        low, high: `(D,)`, in feature units, `low <= high`.

    An element whose clean value lies outside the range may only move towards the range.
    """

    low: Float[Tensor, "D"]
    high: Float[Tensor, "D"]

    def __post_init__(self) -> None:
        if self.low.shape != self.high.shape or not bool((self.low <= self.high).all()):
            raise AttackError(
                "low and high of an observed range must have the same shape (D,), with low <= high"
            )

    @classmethod
    def of(cls, batch: FeatureBatch) -> ObservedRange:
        """The range of each channel over the valid frames of a batch."""
        frames = batch.x[batch.valid]
        return cls(frames.amin(0), frames.amax(0))

    def within(self, box: Box) -> ObservedRange:
        """The part of the range inside the box of a victim.

        Raises:
            AttackError: if a channel has no value in both.
        """
        low, high = self.low.clamp(min=box[0]), self.high.clamp(max=box[1])
        if not bool((low <= high).all()):
            raise AttackError(f"the observed range has a channel outside the victim's box {box}")
        return ObservedRange(low, high)

    def __repr__(self) -> str:
        return f"ObservedRange({len(self.low)} channels)"


def joint_range(
    observed: ObservedRange | None, box: Box | None, scale: Float[Tensor, "D"]
) -> ObservedRange | None:
    """The range of each channel that both the observed range and the victim's box allow.

    Args:
        observed: range of the training features; `None`: not given.
        box: smallest and largest value that the victim accepts; `None`: unbounded.
        scale: `(D,)`, for its shape, type and device.
    """
    if box is None:
        return observed
    if observed is not None:
        return observed.within(box)
    low, high = (torch.full_like(scale, limit) for limit in box)
    return ObservedRange(low, high)


@dataclass(frozen=True)
class Limits:
    """Maximum cost of a search.

    Args:
        passes: forward plus backward passes per utterance, at least 1; checked between steps.
        seconds: time for the whole batch, above 0; results then depend on the machine.
    """

    passes: int | None = None
    seconds: float | None = None

    def __post_init__(self) -> None:
        if self.passes is not None and self.passes < 1:
            raise AttackError(f"max_passes must be at least 1, got {self.passes}")
        if self.seconds is not None and not self.seconds > 0:
            raise AttackError(f"max_seconds must be above 0, got {self.seconds}")


class Meter:
    """Counts the cost of one search and enforces its limits."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.passes = 0
        self.started = time.monotonic()

    def spend(self, passes: int) -> None:
        """Count passes that every active utterance is about to make.

        Raises:
            SearchEnded: if they would exceed a limit; they are not counted then.
        """
        most = self.limits.passes
        if most is not None and self.passes + passes > most:
            raise SearchEnded
        seconds = self.limits.seconds
        if seconds is not None and time.monotonic() - self.started > seconds:
            raise SearchEnded
        self.passes += passes


def feasible(
    x: Float[Tensor, "B T D"], bound: Float[Tensor, "*B D"], box: ObservedRange | None
) -> tuple[Tensor, Tensor]:
    """Lower and upper bound of `delta`: shaped as `bound` without a box, else `(B, T, D)`."""
    if box is None:
        return -bound, bound
    if len(box.low) != x.shape[2]:
        raise AttackError(
            f"the observed range has {len(box.low)} channels, the features have {x.shape[2]}"
        )
    lower = torch.maximum(box.low.to(x) - x, -bound).clamp(max=0.0)
    upper = torch.minimum(box.high.to(x) - x, bound).clamp(min=0.0)
    return lower, upper


def reachable(
    x: Float[Tensor, "B T D"], bound: Float[Tensor, "*B D"], box: ObservedRange | None
) -> tuple[Float[Tensor, "B T D"], Float[Tensor, "B T D"]]:
    """The smallest and the largest value of each element that the budget and the box allow.

    Args:
        x: clean features, float32.
        bound: `epsilon * scale` in float64, `(D,)` or `(B, 1, D)`.
        box: range of each channel; `None`: unbounded.

    Returns:
        Float32 `(B, T, D)` each: the outermost numbers for which `|x_adv - x| <= bound` holds in
        float64, so limits that float32 cannot represent are rounded towards `x`.
    """
    low, high = torch.empty_like(x), torch.empty_like(x)
    # One utterance at a time, because float64 takes twice the memory.
    for row, clean in enumerate(x):
        allowed = bound[None] if bound.ndim == 1 else bound[row]
        low[row], high[row] = _outermost(clean, -allowed), _outermost(clean, allowed)
    if box is None:
        return low, high
    box_low, box_high = torch.minimum(box.low.to(x), x), torch.maximum(box.high.to(x), x)
    return torch.maximum(low, box_low), torch.minimum(high, box_high)


def _outermost(x: Float[Tensor, "T D"], offset: Float[Tensor, "1 D"]) -> Float[Tensor, "T D"]:
    """The float32 numbers between `x` and `x + offset` that are farthest from `x`."""
    exact = x.double()
    found = (exact + offset).float()
    beyond = (found.double() - exact).abs() > offset.abs()
    return torch.where(beyond, torch.nextafter(found, x), found)


def rounded_inside(
    moved: Float[Tensor, "R T D"], low: Float[Tensor, "R T D"], high: Float[Tensor, "R T D"]
) -> Float[Tensor, "R T D"]:
    """Features moved into their limits `low` and `high`, where only rounding puts them outside.

    Features that are farther outside stay as they are, because the audit has to find them.
    """
    inside = moved.clamp(low, high)
    rounding = 4 * torch.finfo(torch.float32).eps * (low.abs() + high.abs())
    return torch.where((moved - inside).abs() <= rounding, inside, moved)
