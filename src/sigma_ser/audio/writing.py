"""Perturbed recordings as 16-bit FLAC files that state in their tags how they were made.

A sample `w` with full scale at 1 is written as the integer nearest to `32768 w` (a half is rounded
to the even one) and read as that integer divided by 32768. Samples beyond full scale are clipped to
[-32768, 32767]. Waves are never scaled, since that would change the perturbation.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from jaxtyping import Float, Float64, Int16

from sigma_ser.core.errors import AudioError
from sigma_ser.core.files import whole_file

from .recording import SAMPLE_RATE

NOTICE = "adversarial example made by sigma-ser"
"""The default first words of the comment in a file."""

_FULL_SCALE = 32_768


@dataclass(frozen=True, kw_only=True)
class Provenance:
    """How a recording was made.

    Args:
        original: id of the original utterance.
        attack: the attack with its settings, or the corruption.
        budget: what it was allowed to change, as plain data; empty for a corruption.
        notice: what the file is, in words.
    """

    original: str
    attack: str
    budget: Mapping[str, Any]
    notice: str = NOTICE


def quantised(wave: Float[np.ndarray, "N"]) -> Int16[np.ndarray, "N"]:
    """The 16-bit samples of a wave with full scale at 1.

    >>> quantised(np.array([0.5, -1.0, 1.0, 2.5 / 32768, 3.5 / 32768])).tolist()
    [16384, -32768, 32767, 2, 4]
    """
    return _steps(wave).clip(-_FULL_SCALE, _FULL_SCALE - 1).astype(np.int16)


def clipped_samples(wave: Float[np.ndarray, "N"]) -> int:
    """The number of samples that a 16-bit file cannot represent without clipping."""
    steps = _steps(wave)
    return int(((steps < -_FULL_SCALE) | (steps > _FULL_SCALE - 1)).sum())


def _steps(wave: Float[np.ndarray, "N"]) -> Float64[np.ndarray, "N"]:
    """The nearest multiples of the step of 16 bits; a half is rounded to the even one."""
    nearest: Float64[np.ndarray, "N"] = np.rint(wave.astype(np.float64) * _FULL_SCALE)
    return nearest


def write_flac(
    path: str | os.PathLike[str], wave: Float[np.ndarray, "N"], provenance: Provenance
) -> int:
    """Write a wave as a 16-bit FLAC file, whole or not at all.

    `read_audio(path)` returns the quantised wave. The title of the file is the id of the original
    utterance, its comment the provenance as JSON, its date is not set.

    Args:
        path: of the file, with the suffix `.flac`.
        wave: float `(N,)`, 16 kHz, mono, full scale at 1.
        provenance: how the wave was made.

    Returns:
        The number of clipped samples.

    Raises:
        AudioError: if the wave is empty or not finite, or the path has another suffix.
        OSError: if the file cannot be written.
    """
    target = Path(path)
    if target.suffix.lower() != ".flac":
        raise AudioError(f"perturbed audio is written as FLAC; name the file {target.stem}.flac")
    if not len(wave) or not np.isfinite(wave).all():
        raise AudioError(
            f"the wave for {target.name} is empty or has NaN or infinite samples, so it is not "
            "written",
            "non-finite",
        )
    with (
        whole_file(target) as aside,
        soundfile.SoundFile(
            aside, "w", SAMPLE_RATE, channels=1, format="FLAC", subtype="PCM_16"
        ) as file,
    ):
        if provenance.original:  # libsndfile has no empty tags
            file.title = provenance.original
        file.comment = json.dumps(asdict(provenance))
        file.software = "sigma-ser"
        # Integers, because libsndfile would scale float samples by another factor.
        file.write(quantised(wave))
    return clipped_samples(wave)


def read_provenance(path: str | os.PathLike[str]) -> Provenance | None:
    """The provenance in the comment of a file; `None` if `write_flac` did not write it.

    Raises:
        AudioError: if the file cannot be opened.
    """
    try:
        with soundfile.SoundFile(path) as file:
            comment = file.comment
    except soundfile.LibsndfileError as fault:
        raise AudioError(
            f"{path} cannot be opened as audio ({fault.error_string}); give a FLAC file that "
            "sigma-ser has written"
        ) from fault
    try:
        return Provenance(**json.loads(comment))
    except (ValueError, TypeError):
        return None
