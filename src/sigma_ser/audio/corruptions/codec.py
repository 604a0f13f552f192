"""Coding and decoding of a wave in memory by libsndfile."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import soundfile
from jaxtyping import Float64


def coded(
    wave: Float64[np.ndarray, "N"], rate: int, *, form: str, subtype: str, **options: Any
) -> Float64[np.ndarray, "_"]:
    """The decoded samples of a coded wave.

    Args:
        wave: samples, full scale at 1; codecs clip what lies beyond.
        rate: in Hz.
        form: container of libsndfile, such as `OGG`.
        subtype: coding of libsndfile, such as `OPUS`.
        options: `compression_level` and `bitrate_mode` of `soundfile.write`.
    """
    file = io.BytesIO()
    soundfile.write(file, wave.astype(np.float32), rate, format=form, subtype=subtype, **options)
    file.seek(0)
    decoded: Float64[np.ndarray, "_"] = soundfile.read(file, dtype="float64")[0]
    return decoded
