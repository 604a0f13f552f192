"""Small pictures for the page: maps as palette PNGs, transparent where a value is zero."""

from __future__ import annotations

import base64
import io

import numpy as np
from jaxtyping import Bool, Float, UInt8
from PIL import Image

_BLUE, _ORANGE, _SLATE = (38, 120, 190), (222, 96, 32), (110, 120, 140)
_MAP_ROWS, _COLUMNS = 64, 480
HOP = 160
"""Samples from one column of a spectrogram to the next."""


def magnitude_picture(values: Float[np.ndarray, "R N"], full: float) -> str:
    """Draw values from 0 to `full` in orange of rising opacity.

    Args:
        values: `(R, N)`, row 0 at the top; values above `full` are drawn as `full`.
        full: the value that is drawn opaque.

    Returns:
        A PNG image as a data URI.
    """
    levels = np.clip(values / (full or 1.0), 0.0, 1.0) ** 0.7
    return _data_uri((255 * levels).astype(np.uint8), _ramp(_ORANGE))


def signed_picture(values: Float[np.ndarray, "R N"]) -> str:
    """Draw values around zero: orange above, blue below, transparent at zero.

    Args:
        values: `(R, N)`, row 0 at the top; the largest magnitude is drawn opaque.

    Returns:
        A PNG image as a data URI.
    """
    full = float(np.abs(values).max()) or 1.0
    levels = (128 + 127 * np.clip(values / full, -1.0, 1.0)).astype(np.uint8)
    above = [(*_ORANGE, 2 * i) for i in range(128)]
    below = [(*_BLUE, 255 - 2 * i) for i in range(128)]
    return _data_uri(levels, [*below, *above])


def spectrogram(waveform: Float[np.ndarray, "N"]) -> Float[np.ndarray, "r n"]:
    """Return the power in dB from 8 kHz (row 0) down to 0 Hz, in at most 128 rows and 480 columns.

    Args:
        waveform: `(N,)` mono audio at 16 kHz. Hann windows of 25 ms are centred in steps of 10 ms,
            so that the columns divide the duration evenly.
    """
    window = 400
    before = (window - HOP) // 2
    padded = np.pad(waveform, (before, before + -len(waveform) % HOP))
    frames = np.lib.stride_tricks.sliding_window_view(padded, window)[::HOP]
    power = np.abs(np.fft.rfft(frames * np.hanning(window), 512)) ** 2
    decibel: Float[np.ndarray, "r n"] = 10 * np.log10(pooled(power.T[::-1], 128, _COLUMNS) + 1e-12)
    return decibel


def spectrogram_picture(decibel: Float[np.ndarray, "r n"], top: float) -> str:
    """Draw a spectrogram over a range of 70 dB.

    Args:
        decibel: as of `spectrogram`.
        top: the level in dB that is drawn opaque.

    Returns:
        A PNG image as a data URI.
    """
    levels = np.clip((decibel - top + 70) / 70, 0, 1)
    return _data_uri((255 * levels).astype(np.uint8), _ramp(_SLATE))


def area_path(levels: Float[np.ndarray, "N"]) -> str:
    """Return the area under a step function as an SVG path in a box 480 x 100.

    Args:
        levels: `(N,)` heights from 0 to 1 of steps that divide the box evenly.
    """
    ends = np.arange(1, len(levels) + 1) * _COLUMNS / max(len(levels), 1)
    steps = [f"V{100 - 98 * a:.1f}H{x:.1f}" for a, x in zip(levels, ends, strict=True)]
    return "M0,100" + "".join(steps) + "V100Z"


def over_time(values: Float[np.ndarray, "N 1"] | Bool[np.ndarray, "N 1"]) -> Float[np.ndarray, "n"]:
    """Means of the values of samples over at most 480 equal parts of the time."""
    means: Float[np.ndarray, "n"] = pooled(values.T.astype(float), 1, _COLUMNS)[0]
    return means


def pooled(values: Float[np.ndarray, "R N"], rows: int, columns: int) -> Float[np.ndarray, "r n"]:
    """Average neighbouring values until at most `rows` x `columns` remain."""
    for axis, most in ((0, rows), (1, columns)):
        size = values.shape[axis]
        if size > most:
            starts = np.linspace(0, size, most, endpoint=False).astype(int)
            lengths = np.diff([*starts, size])
            sums = np.add.reduceat(values, starts, axis=axis)
            values = sums / (lengths[:, None] if axis == 0 else lengths)
    return values


def channel_map(
    values: Float[np.ndarray, "T D"] | Bool[np.ndarray, "T D"], order: np.ndarray
) -> Float[np.ndarray, "r n"]:
    """Lay out a `(T, D)` map as a picture of reduced size.

    Args:
        values: a map or a mask `(T, D)`.
        order: `(D,)` the channels from the top row to the bottom row.

    Returns:
        Averages, at most 64 rows of channels and 480 columns of frames, time to the right.
    """
    return pooled(values[:, order].T.astype(float), _MAP_ROWS, _COLUMNS)


def wave_path(waveform: Float[np.ndarray, "N"], columns: int = _COLUMNS) -> str:
    """Return the outline of a waveform as an SVG path in a box `columns` x 100."""
    if not len(waveform):
        return ""
    starts = np.unique(np.linspace(0, len(waveform), columns, endpoint=False).astype(int))
    full = float(np.abs(waveform).max()) or 1.0
    high = 50 - 48 * np.maximum.reduceat(waveform, starts) / full
    low = 50 - 48 * np.minimum.reduceat(waveform, starts) / full
    x = starts * columns / len(waveform)
    there = [f"{a:.0f},{b:.1f}" for a, b in zip(x, high, strict=True)]
    back = [f"{a:.0f},{b:.1f}" for a, b in zip(x[::-1], low[::-1], strict=True)]
    return "M" + "L".join([*there, *back]) + "Z"


def _ramp(colour: tuple[int, int, int]) -> list[tuple[int, int, int, int]]:
    return [(*colour, alpha) for alpha in range(256)]


def _data_uri(levels: UInt8[np.ndarray, "R N"], palette: list[tuple[int, int, int, int]]) -> str:
    """Encode an 8-bit palette PNG: each pixel is an index into 256 colours with alpha."""
    image = Image.fromarray(levels)
    image.putpalette([part for colour in palette for part in colour[:3]])
    alpha = bytes(colour[3] for colour in palette)
    file = io.BytesIO()
    image.save(file, "PNG", transparency=alpha, compress_level=9)
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()
