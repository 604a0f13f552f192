"""Running statistics over the blocks of a recording."""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float32


@dataclass
class Tally:
    """Range, power and hash of the samples so far.

    `low` and `high` are of the mean of the channels, `raw_low` and `raw_high` of all channels.
    """

    samples: int = 0
    low: float = math.inf
    high: float = -math.inf
    raw_low: float = math.inf
    raw_high: float = -math.inf
    power: float = 0.0
    raw_power: float = 0.0
    finite: bool = True
    digest: hashlib.blake2b = field(default_factory=lambda: hashlib.blake2b(digest_size=16))

    def add(self, raw: Float32[np.ndarray, "samples channels"]) -> Float32[np.ndarray, "samples"]:
        """Count a block of at least one sample and return the mean of its channels."""
        # The least and the greatest sample are NaN or infinite if any sample is.
        low, high = float(raw.min()), float(raw.max())
        self.finite = self.finite and math.isfinite(low) and math.isfinite(high)
        self.digest.update(raw.data)
        self.samples += len(raw)
        self.raw_low, self.raw_high = min(self.raw_low, low), max(self.raw_high, high)
        if raw.shape[1] == 1:
            self.low, self.high = self.raw_low, self.raw_high
            return raw[:, 0]
        if not self.finite:
            return raw[:, 0]
        mono: Float32[np.ndarray, "samples"] = raw.mean(axis=1, dtype=np.float32)
        self.low, self.high = min(self.low, float(mono.min())), max(self.high, float(mono.max()))
        self.power += float(np.square(mono, dtype=np.float64).sum())
        self.raw_power += float(np.square(raw, dtype=np.float64).sum()) / raw.shape[1]
        return mono
