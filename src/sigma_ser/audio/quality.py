"""Quality of perturbed audio: levels of the perturbation, PESQ and STOI.

All functions take waves `(B, S, 1)` at 16 kHz with full scale at 1, and valid samples `(B,)`.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Float64, Int
from torch import Tensor, nn

from sigma_ser.core.errors import ShapeError
from sigma_ser.core.features import FeatureBatch, valid_frames

from . import perceptual
from .recording import SAMPLE_RATE

# A segment of 20 ms in which no sample exceeds -80 dB of full scale is silent.
_SEGMENT = SAMPLE_RATE // 50
_SILENT = 1e-4
_SEGMENT_RANGE = (-10.0, 35.0)


@dataclass(frozen=True, eq=False)
class AudioQuality:
    """Quality of each utterance of a batch; every field is `(B,)`, and NaN where it is undefined.

    `snr` and `snr_segmental` in dB, `peak_dbfs` in dB of full scale, `pesq` from 1.04 to 4.64,
    `stoi` and `estoi` up to 1. `notes` give the reasons why `pesq`, `stoi` or `estoi` is NaN;
    `None` where all three are defined.
    """

    snr: Float64[Tensor, "B"]
    snr_segmental: Float64[Tensor, "B"]
    peak_dbfs: Float64[Tensor, "B"]
    pesq: Float64[Tensor, "B"]
    stoi: Float64[Tensor, "B"]
    estoi: Float64[Tensor, "B"]
    notes: tuple[str | None, ...]


def audio_quality(batch: FeatureBatch, x_adv: Float[Tensor, "B S 1"]) -> AudioQuality:
    """All measures of quality of the waves `x_adv` relative to those of `batch`.

    Args:
        batch: the clean waves `(B, S, 1)`.
        x_adv: the perturbed waves, `(B, S, 1)`.

    Raises:
        ShapeError: if the shapes differ, or there is more than one channel.
        AudioError: if the packages of `sigma-ser[audio]` are not installed.
    """
    x, lengths = batch.x, batch.lengths
    scores = {
        name: measure(x, x_adv, lengths)
        for name, measure in (("pesq", pesq), ("stoi", stoi), ("estoi", estoi))
    }
    reasons = zip(*(found.notes for found in scores.values()), strict=True)
    notes = tuple(
        "; ".join(f"{name}: {why}" for name, why in zip(scores, row, strict=True) if why) or None
        for row in reasons
    )
    return AudioQuality(
        **levels(batch, x_adv),
        notes=notes,
        **{name: found.values for name, found in scores.items()},
    )


def levels(batch: FeatureBatch, x_adv: Float[Tensor, "B S 1"]) -> dict[str, Float64[Tensor, "B"]]:
    """The measures that need no further package: `snr`, `snr_segmental` and `peak_dbfs`.

    Args:
        batch: the clean waves `(B, S, 1)`.
        x_adv: the perturbed waves, `(B, S, 1)`.

    Raises:
        ShapeError: if the shapes differ, or there is more than one channel.
    """
    given = (batch.x, x_adv, batch.lengths)
    return {
        "snr": snr(*given),
        "snr_segmental": snr_segmental(*given),
        "peak_dbfs": peak_dbfs(*given),
    }


def snr(
    x: Float[Tensor, "B S 1"], x_adv: Float[Tensor, "B S 1"], lengths: Int[Tensor, "B"]
) -> Float64[Tensor, "B"]:
    """Signal-to-noise ratio `10 log10(sum x^2 / sum delta^2)` over the valid samples, in dB.

    Returns:
        `(B,)`; NaN for a perturbation of zero, minus infinity for a perturbed wave of zeros.

    >>> wave = torch.ones(1, 4, 1)
    >>> snr(wave, 1.1 * wave, torch.tensor([4])).round(decimals=4)
    tensor([20.], dtype=torch.float64)
    """
    clean, delta = _clean_and_delta(x, x_adv, lengths)
    noise = delta.square().sum(1)
    return (10 * (clean.square().sum(1) / noise).log10()).masked_fill(noise == 0, torch.nan)


def snr_segmental(
    x: Float[Tensor, "B S 1"], x_adv: Float[Tensor, "B S 1"], lengths: Int[Tensor, "B"]
) -> Float64[Tensor, "B"]:
    """Mean over segments of 20 ms of their signal-to-noise ratio within -10 to 35 dB.

    A segment counts if the clean wave or the perturbation is not silent in it, i.e. exceeds -80 dB
    of full scale. The samples after the last whole segment are a shorter segment.

    Returns:
        `(B,)`, in dB; NaN for an utterance without such a segment.
    """
    clean, delta = (_segments(part) for part in _clean_and_delta(x, x_adv, lengths))
    counts = torch.maximum(clean.abs().amax(2), delta.abs().amax(2)) > _SILENT
    ratio = 10 * (clean.square().sum(2) / delta.square().sum(2)).log10()
    # 0 / 0 is silent, and does not count.
    total: Tensor = ratio.clamp(*_SEGMENT_RANGE).masked_fill(~counts, 0.0).sum(1)
    return total / counts.sum(1)


def peak_dbfs(
    x: Float[Tensor, "B S 1"], x_adv: Float[Tensor, "B S 1"], lengths: Int[Tensor, "B"]
) -> Float64[Tensor, "B"]:
    """Largest absolute value of the perturbation, `20 log10 max|delta|`, in dB of full scale.

    Returns:
        `(B,)`; NaN for a perturbation of zero.
    """
    peak = _clean_and_delta(x, x_adv, lengths)[1].abs().amax(1)
    return (20 * peak.log10()).masked_fill(peak == 0, torch.nan)


def pesq(
    x: Float[Tensor, "B S 1"], x_adv: Float[Tensor, "B S 1"], lengths: Int[Tensor, "B"]
) -> perceptual.Scores:
    """PESQ of the perturbed waves, wide band (ITU-T P.862.2), by the package `pesq`."""
    return perceptual.scores(perceptual.pesq_score, _pairs(x, x_adv, lengths))


def stoi(
    x: Float[Tensor, "B S 1"], x_adv: Float[Tensor, "B S 1"], lengths: Int[Tensor, "B"]
) -> perceptual.Scores:
    """Short-time objective intelligibility (Taal et al. 2011), by the package `pystoi`."""
    return perceptual.scores(perceptual.stoi_score, _pairs(x, x_adv, lengths))


def estoi(
    x: Float[Tensor, "B S 1"], x_adv: Float[Tensor, "B S 1"], lengths: Int[Tensor, "B"]
) -> perceptual.Scores:
    """Extended STOI (Jensen & Taal 2016), by the package `pystoi`."""
    return perceptual.scores(perceptual.estoi_score, _pairs(x, x_adv, lengths))


def _clean_and_delta(
    x: Tensor, x_adv: Tensor, lengths: Int[Tensor, "B"]
) -> tuple[Float64[Tensor, "B S"], Float64[Tensor, "B S"]]:
    """The clean wave and the perturbation, zero on padding."""
    padding = _padding(x, x_adv, lengths)
    clean, changed = (
        wave.detach()[:, :, 0].double().masked_fill(padding, 0.0) for wave in (x, x_adv)
    )
    return clean, changed - clean


def _segments(wave: Float64[Tensor, "B S"]) -> Float64[Tensor, "B N K"]:
    """Segments of 20 ms, the last one filled up with zeros."""
    filled = nn.functional.pad(wave, (0, -wave.shape[1] % _SEGMENT))
    return filled.view(len(filled), filled.shape[1] // _SEGMENT, _SEGMENT)


def _pairs(x: Tensor, x_adv: Tensor, lengths: Int[Tensor, "B"]) -> list[perceptual.Pair]:
    """Clean and perturbed wave of each utterance without padding."""
    _padding(x, x_adv, lengths)
    clean, changed = (wave.detach().cpu()[:, :, 0].double().numpy() for wave in (x, x_adv))
    sizes = lengths.tolist()
    return [
        (one[:size], other[:size]) for one, other, size in zip(clean, changed, sizes, strict=True)
    ]


def _padding(x: Tensor, x_adv: Tensor, lengths: Int[Tensor, "B"]) -> Bool[Tensor, "B S"]:
    if x.shape != x_adv.shape or x.ndim != 3 or x.shape[2] != 1:
        raise ShapeError(
            "the quality of audio is measured on two batches of waves (B, S, 1) of the same shape, "
            f"got {tuple(x.shape)} and {tuple(x_adv.shape)}"
        )
    return ~valid_frames(lengths.to(x.device), x.shape[1])
