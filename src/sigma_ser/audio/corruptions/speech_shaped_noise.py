"""Additive noise with the spectrum of speech."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64

from sigma_ser.core.registry import register

from .base import Corruption, at_snr, require_snr

_WINDOW = 512  # 32 ms


@register("corruption", "speech-shaped-noise")
@dataclass(frozen=True, kw_only=True)
class SpeechShapedNoise(Corruption):
    """Stationary noise with the long-term average spectrum of the utterance itself.

    The spectrum is Welch's estimate with windows of 32 ms.

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
        from scipy.signal import welch

        bins, power = welch(wave, fs=1.0, nperseg=min(_WINDOW, len(wave)), detrend=False)
        spectrum = np.fft.rfft(rng.standard_normal(len(wave)))
        gains = np.interp(np.fft.rfftfreq(len(wave)), bins, np.sqrt(power))
        return at_snr(wave, np.fft.irfft(gains * spectrum, len(wave)), self.snr)
