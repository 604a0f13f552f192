"""The band and the coding of a telephone line."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64

from sigma_ser.audio.recording import SAMPLE_RATE
from sigma_ser.core.registry import register

from .base import Corruption
from .codec import coded
from .resampling import back, resampled

_RATE = 8_000
_BAND = (300.0, 3_400.0)
_TAPS = 257  # odd, so that the delay of the symmetric filter is a whole number of samples


@register("corruption", "telephone")
@dataclass(frozen=True, kw_only=True)
class Telephone(Corruption):
    """The band from 300 to 3,400 Hz at 8 kHz, coded with 8 bits (mu-law of ITU-T G.711)."""

    def apply(
        self, wave: Float64[np.ndarray, "N"], rng: np.random.Generator
    ) -> Float64[np.ndarray, "N"]:
        """Filter, resample, code, and resample back."""
        from scipy.signal import fftconvolve, firwin

        taps = firwin(_TAPS, _BAND, pass_zero=False, fs=SAMPLE_RATE)
        delay = _TAPS // 2
        band = fftconvolve(wave, taps)[delay : delay + len(wave)]
        narrow = resampled(band, SAMPLE_RATE, _RATE)
        return back(coded(narrow, _RATE, form="WAV", subtype="ULAW"), _RATE, len(wave))
