"""A lower level of the whole recording."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64

from sigma_ser.core.errors import ConfigError
from sigma_ser.core.registry import register

from .base import Corruption


@register("corruption", "gain")
@dataclass(frozen=True, kw_only=True)
class Gain(Corruption):
    """Attenuation by the factor `1 - 10^(-snr / 20)`, a change of the level without clipping.

    Args:
        snr: signal-to-noise ratio of the change, in dB, at least 0; 6 dB halves the wave, 20 dB
            lowers it by 0.9 dB.
    """

    snr: float = 20.0

    def __post_init__(self) -> None:
        if not 0 <= self.snr < np.inf:
            raise ConfigError(f"snr of Gain must be at least 0 dB, got {self.snr}")

    def apply(
        self, wave: Float64[np.ndarray, "N"], rng: np.random.Generator
    ) -> Float64[np.ndarray, "N"]:
        """Attenuate."""
        quieter: Float64[np.ndarray, "N"] = (1 - 10 ** (-self.snr / 20)) * wave
        return quieter
