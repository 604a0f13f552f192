"""Reverberation of a synthetic room."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64

from sigma_ser.audio.recording import SAMPLE_RATE
from sigma_ser.core.errors import ConfigError
from sigma_ser.core.registry import register

from .base import Corruption, at_snr, require_snr


@register("corruption", "reverberation")
@dataclass(frozen=True, kw_only=True)
class Reverberation(Corruption):
    """Convolution with an exponentially decaying noise tail (Polack 1988) after the direct sound.

    Args:
        snr: power of the direct sound relative to the reverberation over the utterance, in dB.
        decay_seconds: time in which the tail decays by 60 dB, above 0.
    """

    snr: float = 20.0
    decay_seconds: float = 0.5

    def __post_init__(self) -> None:
        require_snr(self, self.snr)
        if not 0 < self.decay_seconds < np.inf:
            raise ConfigError(
                f"decay_seconds of Reverberation must be above 0, got {self.decay_seconds}"
            )

    def apply(
        self, wave: Float64[np.ndarray, "N"], rng: np.random.Generator
    ) -> Float64[np.ndarray, "N"]:
        """Add the reverberation that falls within the utterance."""
        from scipy.signal import fftconvolve

        after = np.arange(1, max(2, round(self.decay_seconds * SAMPLE_RATE)))
        tail = rng.standard_normal(len(after)) * 10 ** (
            -3 * after / (self.decay_seconds * SAMPLE_RATE)
        )
        return at_snr(wave, fftconvolve(wave, np.append(0.0, tail))[: len(wave)], self.snr)
