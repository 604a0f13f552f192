"""Opus coding."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64

from sigma_ser.audio.recording import SAMPLE_RATE
from sigma_ser.core.errors import ConfigError
from sigma_ser.core.registry import register

from .base import Corruption, fitted
from .codec import coded

# The range that libsndfile divides evenly by the compression level, in kbit/s.
_LOWEST, _HIGHEST = 6, 256


@register("corruption", "opus")
@dataclass(frozen=True, kw_only=True)
class Opus(Corruption):
    """Coding with Opus (RFC 6716), the codec of internet telephony, at a variable bit rate.

    Args:
        kbps: target of the bit rate in kbit/s, from 6 to 256.
    """

    kbps: int = 16

    def __post_init__(self) -> None:
        if not _LOWEST <= self.kbps <= _HIGHEST:
            raise ConfigError(
                f"kbps of Opus must lie between {_LOWEST} and {_HIGHEST}, got {self.kbps}"
            )

    def apply(
        self, wave: Float64[np.ndarray, "N"], rng: np.random.Generator
    ) -> Float64[np.ndarray, "N"]:
        """Code and decode."""
        level = (_HIGHEST - self.kbps) / (_HIGHEST - _LOWEST)
        decoded = coded(wave, SAMPLE_RATE, form="OGG", subtype="OPUS", compression_level=level)
        return fitted(decoded, len(wave))
