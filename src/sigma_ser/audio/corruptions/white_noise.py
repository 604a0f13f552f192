"""Additive white noise."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64

from sigma_ser.core.registry import register

from .base import Corruption, at_snr, require_snr


@register("corruption", "white-noise")
@dataclass(frozen=True, kw_only=True)
class WhiteNoise(Corruption):
    """Gaussian white noise.

    Args:
        snr: signal-to-noise ratio over the utterance, in dB.
    """

    snr: float = 20.0

    def __post_init__(self) -> None:
        require_snr(self, self.snr)

    def apply(
        self, wave: Float64[np.ndarray, "N"], rng: np.random.Generator
    ) -> Float64[np.ndarray, "N"]:
        """Add noise."""
        return at_snr(wave, rng.standard_normal(len(wave)), self.snr)
