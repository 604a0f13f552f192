"""The sounds of the page: 16-bit FLAC as data URIs, and the difference made audible."""

from __future__ import annotations

import base64
import io
import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Float64, Int16

from sigma_ser.audio.writing import quantised

from .exemplar import SAMPLE_RATE

_STEPS = 32_768
# The amplified difference has at most half of full scale, and one step of 16 bits at most -30 dB.
_PEAK = 0.5
_MOST_GAIN = 60


@dataclass(frozen=True, eq=False)
class Difference:
    """The perturbed recording minus the original one, amplified.

    Args:
        samples: `(N,)` the amplified difference at 16 bits.
        gain: of the amplification, in dB; negative where the difference is loud.
    """

    samples: Int16[np.ndarray, "N"]
    gain: int


def difference(original: Float[np.ndarray, "N"], perturbed: Int16[np.ndarray, "N"]) -> Difference:
    """Amplify what the attack added to a recording, by whole decibels and without clipping.

    Both recordings are compared at 16 bits, as the page plays them.

    Args:
        original: full scale at 1.
        perturbed: at 16 bits.

    >>> found = difference(np.zeros(2), np.array([0, 16], dtype=np.int16))
    >>> found.gain, found.samples.tolist()
    (60, [0, 16000])
    """
    delta = wave_of(perturbed) - wave_of(quantised(original))
    peak = float(np.abs(delta).max(initial=0.0))
    gain = min(_MOST_GAIN, math.floor(20 * math.log10(_PEAK / peak))) if peak else 0
    return Difference(quantised(delta * 10 ** (gain / 20)), gain)


def flac_uri(samples: Int16[np.ndarray, "N"]) -> str:
    """A recording at 16 kHz and 16 bits as the data URI of a FLAC file."""
    import soundfile

    buffer = io.BytesIO()
    soundfile.write(buffer, samples, SAMPLE_RATE, format="FLAC", subtype="PCM_16")
    file = _seekable(buffer.getvalue())
    return "data:audio/flac;base64," + base64.b64encode(file).decode()


def _seekable(file: bytes) -> bytes:
    """A FLAC file with a seek table of one point, its first frame (RFC 9639, section 8.5).

    libsndfile writes no table, and without one Chromium fails to seek in files of a few frames: the
    player stops with an error. From the first frame it decodes up to the wanted time.
    """
    # The first block, STREAMINFO, has 34 bytes behind "fLaC" and 4 bytes of its header.
    kind, size, end = file[4], b"\0\0\x12", 42
    last, seek_table = kind & 0x80, 3
    first_frame = bytes(8 + 8) + file[8:10]  # sample 0, at byte 0 of the frames; samples in a frame
    return b"".join(
        (file[:4], b"\0", file[5:end], bytes([last | seek_table]), size, first_frame, file[end:])
    )


def wave_of(samples: Int16[np.ndarray, "N"]) -> Float64[np.ndarray, "N"]:
    """The wave of 16-bit samples, with full scale at 1."""
    return samples.astype(np.float64) / _STEPS
