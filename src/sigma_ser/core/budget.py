"""The budget: how many elements may change, by how much, and in which units."""

from __future__ import annotations

import math
from dataclasses import dataclass
from numbers import Real
from typing import Literal, get_args

import torch
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor

from .errors import BudgetError
from .features import FeatureBatch, valid_frames

Granularity = Literal["element", "frame", "channel", "segment"]
GRANULARITIES: tuple[str, ...] = get_args(Granularity)

# 0.29 * 100 is 28.999999999999996 in floating point; the user means 29.
_ROUNDING = 1e-9


@dataclass(frozen=True, eq=False)
class Budget:
    """What a perturbation may change: at most `k` units, each element by `epsilon * scale`.

    A unit is one element, unless `granularity` says otherwise; an attack changes whole units.

    Args:
        sparsity: share of the valid units, in (0, 1]. Give this or `count`.
        count: number of elements, also when whole frames, channels or segments are chosen; at
            least the number of elements in one unit. A tensor `(B,)` gives each utterance of a
            batch its own number.
        epsilon: bound on `|delta[t, d]|` in units of `scale[d]`, at least 0: a number, `(D,)`, or
            `(B, D)` or `(B, 1)` with one for each utterance of a batch.
        granularity: the unit of selection: single `element`s, `frame`s (rows),
            `channel`s (columns), or `segment`s (runs of at least `segment_frames` frames).
        segment_frames: length of a segment in frames; the last segment also has the remainder.

    Raises:
        BudgetError: if a value is out of its range.
    """

    sparsity: float | None = None
    count: int | Int[Tensor, "B"] | None = None
    epsilon: float | Tensor = 0.5
    granularity: Granularity = "element"
    segment_frames: int = 10

    def __post_init__(self) -> None:
        if (self.sparsity is None) == (self.count is None):
            raise BudgetError(
                "give exactly one of sparsity= (a share) and count= (a number of elements)"
            )
        given: object = self.sparsity
        if not isinstance(given, Real | None):
            raise BudgetError(
                f"sparsity must be a number, got {given!r}; 1 % of the elements is sparsity=0.01"
            )
        count = torch.ones(()) if self.count is None else _tensor("count", self.count)
        epsilon = _tensor("epsilon", self.epsilon)
        if self.sparsity is not None and not 0 < self.sparsity <= 1:
            raise BudgetError(
                f"sparsity is a share and must lie in (0, 1], got {self.sparsity}; "
                "1 % of the elements is sparsity=0.01"
            )
        if self.count is not None and count.is_floating_point():
            raise BudgetError(f"count must be a whole number of elements, got {self.count}")
        if bool((count < 1).any()):
            raise BudgetError(f"count must be at least 1 element, got {self.count}")
        if self.granularity not in GRANULARITIES:
            raise BudgetError(
                f"granularity must be one of {', '.join(GRANULARITIES)}, got {self.granularity!r}"
            )
        if self.segment_frames < 1:
            raise BudgetError(f"segment_frames must be at least 1, got {self.segment_frames}")
        if epsilon.ndim > 2:
            raise BudgetError(
                "epsilon must be a number or a tensor of shape (D,), (B, 1) or (B, D), "
                f"got {tuple(epsilon.shape)}"
            )
        if not bool(((epsilon >= 0) & torch.isfinite(epsilon)).all()):
            raise BudgetError(f"epsilon must be finite and at least 0, got {self.epsilon}")

    @classmethod
    def from_snr(
        cls,
        waves: FeatureBatch,
        snr: float | int = 30,
        sparsity: float | int = 0.1,
        *,
        granularity: Granularity = "element",
        segment_frames: int = 320,
    ) -> Budget:
        """The budget in which a perturbation of waves has at least a signal-to-noise ratio.

        `epsilon_i = rms_i sqrt(S_i / k_i) 10^(-snr / 20)` for utterance `i` of `S_i` samples, of
        which `k_i` may change. If all of them change by epsilon, the ratio is exactly `snr`. The
        scale of the victim must be 1, as it is on waveforms.

        Args:
            waves: `(B, S, 1)`, 16 kHz, full scale at 1.
            snr: smallest signal-to-noise ratio over an utterance, in dB.
            sparsity: share of the samples, or of the segments, that may change, in (0, 1].
            granularity: `element` (samples), `segment`, or `channel` (all samples).
            segment_frames: length of a segment in samples; 320 are 20 ms.

        Raises:
            BudgetError: if a value is out of its range, or the batch has more than one channel.

        >>> waves = FeatureBatch(torch.full((1, 100, 1), 0.5), torch.tensor([100]))
        >>> Budget.from_snr(waves, snr=20, sparsity=0.25).epsilon
        tensor([[0.1000]], dtype=torch.float64)
        """
        if waves.x.shape[2] != 1 or not math.isfinite(snr):
            raise BudgetError(
                "from_snr needs waves (B, S, 1) and a finite ratio in dB, got "
                f"{tuple(waves.x.shape)} and {snr}"
            )
        shares = cls(sparsity=sparsity, granularity=granularity, segment_frames=segment_frames)
        changed = shares.elements(waves.lengths, 1)
        energy = waves.x.double().square().sum((1, 2))
        epsilon = (energy / changed).sqrt()[:, None] * 10 ** (-snr / 20)
        return cls(
            sparsity=sparsity,
            epsilon=epsilon,
            granularity=granularity,
            segment_frames=segment_frames,
        )

    def bound(self, scale: Float[Tensor, "D"]) -> Float[Tensor, "*B D"]:
        """The largest change of each channel, in feature units: `(D,)`, or `(B, 1, D)`."""
        epsilon = torch.as_tensor(self.epsilon, dtype=scale.dtype, device=scale.device)
        widths = (1, len(scale)) if epsilon.ndim == 2 else (len(scale),)
        if epsilon.ndim and epsilon.shape[-1] not in widths:
            raise BudgetError(
                f"epsilon has {epsilon.shape[-1]} channels, the features have {len(scale)}"
            )
        return (epsilon[:, None, :] if epsilon.ndim == 2 else epsilon) * scale

    def available(self, lengths: Int[Tensor, "B"], channels: int) -> Int[Tensor, "B"]:
        """The number of units of each utterance."""
        match self.granularity:
            case "element":
                return lengths * channels
            case "frame":
                return lengths.clone()
            case "channel":
                return torch.full_like(lengths, channels)
            case "segment":
                return (lengths // self.segment_frames).clamp(min=1)

    def units(self, lengths: Int[Tensor, "B"], channels: int) -> Int[Tensor, "B"]:
        """The number of units that may change in each utterance.

        Raises:
            BudgetError: if `count` is smaller than one unit or larger than what is valid, or
                `count` or `epsilon` is given for another number of utterances.
        """
        self._check_batch(len(lengths))
        available = self.available(lengths, channels)
        if self.sparsity is not None:
            shares = [max(1, math.floor(self.sparsity * n + _ROUNDING)) for n in available.tolist()]
            return torch.tensor(shares, device=lengths.device, dtype=torch.long)
        assert self.count is not None
        count = torch.as_tensor(self.count, device=lengths.device)
        units = torch.div(
            count.expand_as(lengths), self._unit_elements(lengths, channels), rounding_mode="floor"
        )
        if bool((units < 1).any()):
            raise BudgetError(
                f"count={self.count} elements is less than one {self.granularity}; "
                "raise it or choose a finer granularity"
            )
        if bool((units > available).any()):
            raise BudgetError(
                f"count={self.count} elements is more than the shortest utterance has "
                f"({int(available.min())} {self.granularity}s); lower it or use sparsity="
            )
        return units

    def _check_batch(self, utterances: int) -> None:
        for name, value, ndim in (("count", self.count, 1), ("epsilon", self.epsilon, 2)):
            if isinstance(value, Tensor) and value.ndim == ndim and len(value) != utterances:
                raise BudgetError(
                    f"{name} is given for {len(value)} utterances, the batch has {utterances}"
                )

    def elements(self, lengths: Int[Tensor, "B"], channels: int) -> Int[Tensor, "B"]:
        """`k`: the maximum number of elements that may change in each utterance."""
        units = self.units(lengths, channels)
        size = self._unit_elements(lengths, channels)
        if self.granularity != "segment":
            return units * size
        # Only the last segment is longer than the others.
        left_over = lengths - self.available(lengths, channels) * self.segment_frames
        return units * size + left_over.clamp(min=0) * channels

    def _unit_elements(self, lengths: Int[Tensor, "B"], channels: int) -> Int[Tensor, "B"]:
        match self.granularity:
            case "element":
                return torch.ones_like(lengths)
            case "frame":
                return torch.full_like(lengths, channels)
            case "channel":
                return lengths.clone()
            case "segment":
                return lengths.clamp(max=self.segment_frames) * channels

    def unit_scores(
        self, scores: Float[Tensor, "B T D"], lengths: Int[Tensor, "B"]
    ) -> Float[Tensor, "B U"]:
        """Sum non-negative scores over the valid elements of each unit."""
        if self.granularity == "element":
            return scores.flatten(1)
        valid = valid_frames(lengths, scores.shape[1])[:, :, None]
        scores = scores.masked_fill(~valid, 0.0)
        if self.granularity == "channel":
            return scores.sum(1)
        frames = scores.sum(2)
        if self.granularity == "frame":
            return frames
        index = self._segment_of_frame(lengths, scores.shape[1])
        return frames.new_zeros(len(frames), int(index.max()) + 1).scatter_add_(1, index, frames)

    def unit_allowed(
        self, mask: Bool[Tensor, "B T D"] | None, lengths: Int[Tensor, "B"], shape: torch.Size
    ) -> Bool[Tensor, "B U"]:
        """Units that may be chosen: valid, and wholly inside `mask` where one is given."""
        _, frames, channels = shape
        valid = valid_frames(lengths, frames)[:, :, None].expand(shape)
        inside = valid if mask is None else mask & valid
        if self.granularity == "element":
            return inside.flatten(1)
        outside = self.unit_scores((valid & ~inside).float(), lengths)
        numbers = torch.arange(outside.shape[1], device=lengths.device)
        return (outside == 0) & (numbers < self.available(lengths, channels)[:, None])

    def expand(
        self, units: Shaped[Tensor, "B U"], lengths: Int[Tensor, "B"], shape: torch.Size
    ) -> Shaped[Tensor, "B T D"]:
        """The elements of the chosen units, or of each unit its value; zero on padding."""
        valid = valid_frames(lengths, shape[1])[:, :, None]
        match self.granularity:
            case "element":
                whole = units.view(shape)
            case "frame":
                whole = units[:, :, None]
            case "channel":
                whole = units[:, None, :]
            case "segment":
                whole = units.gather(1, self._segment_of_frame(lengths, shape[1]))[:, :, None]
        return torch.where(valid, whole, torch.zeros_like(whole)).expand(shape)

    def touched(
        self, changed: Bool[Tensor, "B T D"], lengths: Int[Tensor, "B"]
    ) -> Int[Tensor, "B"]:
        """The number of units with at least one changed element."""
        return (self.unit_scores(changed.float(), lengths) > 0).sum(1)

    def _segment_of_frame(self, lengths: Int[Tensor, "B"], frames: int) -> Int[Tensor, "B T"]:
        last = (lengths // self.segment_frames).clamp(min=1) - 1
        index = torch.arange(frames, device=lengths.device) // self.segment_frames
        return torch.minimum(index[None, :], last[:, None])


def _tensor(name: str, value: object) -> Tensor:
    """The numbers of a budget, which may be a tensor or plain numbers."""
    try:
        return torch.as_tensor(value)
    except (TypeError, ValueError, RuntimeError):
        raise BudgetError(f"{name} must be a number, got {value!r}") from None
