"""The base class of corruptions: utterance by utterance, with a seed for each."""

from __future__ import annotations

from abc import ABC, abstractmethod

import numpy as np
import torch
from jaxtyping import Float, Float64, Int
from torch import Tensor

from sigma_ser.core.errors import ConfigError, ShapeError
from sigma_ser.core.features import FeatureBatch
from sigma_ser.core.seeds import utterance_seeds


class Corruption(ABC):
    """A change of a recording as it occurs without an attacker.

    A subclass is a frozen dataclass whose fields are its settings, and implements `apply`.
    The result for an utterance depends on its samples and its seed only, and has the same length.
    Nothing is clipped to full scale; that is done when a file is written.
    """

    @abstractmethod
    def apply(
        self, wave: Float64[np.ndarray, "N"], rng: np.random.Generator
    ) -> Float64[np.ndarray, "N"]:
        """Corrupt one wave.

        Args:
            wave: at 16 kHz, full scale at 1; it must not be changed.
            rng: the random numbers of this utterance.

        Returns:
            The corrupted wave, in time with the clean one.
        """

    def __call__(
        self, batch: FeatureBatch, *, seeds: Int[Tensor, "B"] | None = None
    ) -> Float[Tensor, "B S 1"]:
        """Corrupt a batch of waves.

        Args:
            batch: waves `(B, S, 1)`, 16 kHz, full scale at 1.
            seeds: `(B,)`, at least 0; `None` derives them from the ids and the corruption's name.

        Returns:
            `(B, S, 1)` float32, zero on padding.

        Raises:
            ShapeError: if the batch has more than one channel, or not one seed for each utterance.
        """
        if batch.x.shape[2] != 1:
            raise ShapeError(
                f"corruptions change waves (B, S, 1), got features {tuple(batch.x.shape)}; "
                "ss.waveforms(corpus, ids) returns the waves of a corpus"
            )
        if seeds is None:
            seeds = utterance_seeds(batch.ids, type(self).__name__)
        if seeds.shape != batch.lengths.shape:
            raise ShapeError(f"{len(seeds)} seeds were given for {len(batch)} utterances")
        out = torch.zeros_like(batch.x, device="cpu")
        waves = batch.x[:, :, 0].cpu().double().numpy()
        for row, (size, seed) in enumerate(
            zip(batch.lengths.tolist(), seeds.tolist(), strict=True)
        ):
            changed = self.apply(waves[row, :size].copy(), np.random.default_rng(seed))
            out[row, :size, 0] = torch.from_numpy(np.ascontiguousarray(changed, dtype=np.float32))
        return out.to(batch.device)


def at_snr(
    wave: Float64[np.ndarray, "N"], noise: Float64[np.ndarray, "N"], snr: float
) -> Float64[np.ndarray, "N"]:
    """The wave plus the noise, scaled so that their powers have the ratio `snr` in dB.

    A silent wave, or noise of zero, gives the wave itself.
    """
    power = float(np.square(noise).sum())
    if power == 0:
        return wave
    factor = np.sqrt(float(np.square(wave).sum()) / power) * 10 ** (-snr / 20)
    mixed: Float64[np.ndarray, "N"] = wave + factor * noise
    return mixed


def require_snr(corruption: object, snr: float) -> None:
    """Raise a `ConfigError` unless `snr` is a finite number."""
    if not np.isfinite(snr):
        raise ConfigError(
            f"snr of {type(corruption).__name__} must be a finite number of dB, got {snr}"
        )


def fitted(wave: Float64[np.ndarray, "_"], samples: int) -> Float64[np.ndarray, "N"]:
    """A wave cut, or extended with zeros, to a number of samples."""
    out = np.zeros(samples)
    kept = min(samples, len(wave))
    out[:kept] = wave[:kept]
    return out
