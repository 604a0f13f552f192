"""The laws of encoders."""

from __future__ import annotations

import json
from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float

from sigma_ser.audio.recording import SAMPLE_RATE
from sigma_ser.core.errors import AudioError
from sigma_ser.encoders.encoder import load_encoder
from sigma_ser.encoders.family import Encoder

from .laws import inputs_unchanged, require, require_close

# Two waves of similar length share a padded batch, where the encoder pads at all.
_SECONDS = (0.5, 0.31, 0.3, 0.5, 0.1)


def check_encoder(
    encoder: str | Encoder,
    *,
    waves: Sequence[Float[np.ndarray, "_"]] | None = None,
    frame_tolerance: int = 0,
) -> None:
    """Check the laws of an encoder.

    Features are finite float32 `(T, D)` on the CPU with the promised numbers of frames and
    channels; they are the same alone, in company and when encoded again; waves that are too short
    or not finite are refused; waves and global random numbers stay unchanged; the card is plain
    data.

    Args:
        encoder: an encoder, or a name or folder for `load_encoder`.
        waves: mono float32 waves at 16 kHz; by default five noisy tones of 0.1 to 0.5 s.
        frame_tolerance: largest difference between the counted and the actual number of frames.

    Raises:
        ConformanceError: names the first law that is broken.

    >>> from sigma_ser.testing import check_encoder
    >>> check_encoder("demo")
    """
    if isinstance(encoder, str):
        encoder = load_encoder(encoder)
    waves = (
        [_tone(seconds, seed) for seed, seconds in enumerate(_SECONDS)] if waves is None else waves
    )
    require(isinstance(encoder, Encoder), encoder, "is not an Encoder")
    kept = [wave.copy() for wave in waves]
    encoder.load()  # initial weights are random numbers until those on disk replace them
    with inputs_unchanged(encoder):
        together, again = encoder.encode(waves), encoder.encode(waves)
    require(
        all(map(np.array_equal, waves, kept)), encoder, "changes the waves that it encodes in place"
    )
    require(len(together) == len(waves), encoder, "does not return features for each wave")
    for wave, features, repeated in zip(waves, together, again, strict=True):
        require(
            features.dtype == torch.float32 and features.device.type == "cpu",
            encoder,
            "does not return float32 features on the CPU",
        )
        require(
            features.ndim == 2 and features.shape[1] == encoder.dim,
            encoder,
            f"does not return features (T, {encoder.dim}), but {tuple(features.shape)}",
        )
        promised = encoder.frames(len(wave))
        require(
            abs(len(features) - promised) <= frame_tolerance,
            encoder,
            f"promises {promised} frames for {len(wave)} samples and returns {len(features)}",
        )
        require(
            bool(torch.isfinite(features).all()), encoder, "returns features that are not finite"
        )
        require(torch.equal(features, repeated), encoder, "returns other features at a second call")
        law = "returns other features for a wave alone than in company"
        require_close(encoder.encode([wave])[0], features, encoder, law, atol=1e-5, rtol=0.0)
    _check_refusals(encoder)
    require(
        json.loads(json.dumps(encoder.card)) == encoder.card and bool(encoder.key),
        encoder,
        "has a card that is not plain data for JSON",
    )


def _check_refusals(encoder: Encoder) -> None:
    not_finite = _tone(0.5, 0)
    not_finite[100] = np.nan
    for wave, what in (
        (_tone(0.5, 0)[: encoder.receptive_field - 1], "shorter than its receptive field"),
        (not_finite, "with NaN"),
    ):
        try:
            encoder.encode([wave])
        except AudioError:
            continue
        require(False, encoder, f"encodes a wave {what} instead of raising an AudioError")


def _tone(seconds: float, seed: int) -> Float[np.ndarray, "N"]:
    """A tone in noise, with an offset."""
    rng = np.random.default_rng(seed)
    samples = round(seconds * SAMPLE_RATE)
    tone = 0.2 * np.sin(np.arange(samples) * (0.05 + 0.01 * seed))
    wave: Float[np.ndarray, "N"] = tone + 0.05 * rng.standard_normal(samples) + 0.01
    return wave.astype(np.float32)
