"""A lower sample rate."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import soxr
from jaxtyping import Float64

from sigma_ser.audio.recording import SAMPLE_RATE
from sigma_ser.core.errors import ConfigError
from sigma_ser.core.registry import register

from .base import Corruption, fitted


@register("corruption", "resampling")
@dataclass(frozen=True, kw_only=True)
class Resampling(Corruption):
    """Resampling to another rate and back by soxr; what lies above half the rate is lost.

    Args:
        rate: in Hz, from 1,000 to 16,000.
    """

    rate: int = 8_000

    def __post_init__(self) -> None:
        if not 1_000 <= self.rate <= SAMPLE_RATE:
            raise ConfigError(
                f"rate of Resampling must lie between 1000 and {SAMPLE_RATE} Hz, got {self.rate}"
            )

    def apply(
        self, wave: Float64[np.ndarray, "N"], rng: np.random.Generator
    ) -> Float64[np.ndarray, "N"]:
        """Resample twice."""
        return back(resampled(wave, SAMPLE_RATE, self.rate), self.rate, len(wave))


def resampled(wave: Float64[np.ndarray, "_"], rate: int, new_rate: int) -> Float64[np.ndarray, "_"]:
    """The wave at another rate in Hz, as recordings are resampled when they are read."""
    found: Float64[np.ndarray, "_"] = soxr.resample(wave, rate, new_rate, quality="VHQ")
    return found


def back(wave: Float64[np.ndarray, "_"], rate: int, samples: int) -> Float64[np.ndarray, "N"]:
    """A wave of `rate` Hz at 16 kHz again, with its former number of samples."""
    return fitted(resampled(wave, rate, SAMPLE_RATE), samples)
