"""MP3 coding."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64

from sigma_ser.audio.recording import SAMPLE_RATE
from sigma_ser.core.errors import ConfigError
from sigma_ser.core.registry import register

from .base import Corruption, fitted
from .codec import coded

# Bit rates of MPEG-2 layer III, which has 16 kHz.
_RATES = (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160)
# Files of up to 24 kbit/s have no room for the header that states the delay of coder and decoder
# (LAME: 576 + 528 + 1 samples), so the decoder does not remove it.
_DELAY = 576 + 528 + 1


@register("corruption", "mp3")
@dataclass(frozen=True, kw_only=True)
class MP3(Corruption):
    """Coding as MP3 at a constant bit rate, by LAME in libsndfile.

    Args:
        kbps: bit rate in kbit/s: 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144 or 160.
    """

    kbps: int = 32

    def __post_init__(self) -> None:
        if self.kbps not in _RATES:
            raise ConfigError(
                f"kbps of MP3 must be one of {', '.join(map(str, _RATES))}, got {self.kbps}"
            )

    def apply(
        self, wave: Float64[np.ndarray, "N"], rng: np.random.Generator
    ) -> Float64[np.ndarray, "N"]:
        """Code and decode."""
        # libsndfile divides its range of bit rates evenly by the compression level. It refuses the
        # level 1, and takes the nearest rate.
        level = min(0.99, (_RATES[-1] - self.kbps) / (_RATES[-1] - _RATES[0]))
        decoded = coded(
            wave, SAMPLE_RATE, form="MP3", subtype="MPEG_LAYER_III",
            compression_level=level, bitrate_mode="CONSTANT",
        )  # fmt: skip
        delayed = len(decoded) > len(wave)
        return fitted(decoded[_DELAY:] if delayed else decoded, len(wave))
