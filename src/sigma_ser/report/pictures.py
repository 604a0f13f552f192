"""Small pictures for the page: maps as palette PNGs that are clear where nothing is."""

from __future__ import annotations

import base64
import struct
import zlib

import numpy as np
from jaxtyping import Bool, Float, UInt8

_BLUE, _ORANGE, _SLATE = (38, 120, 190), (222, 96, 32), (110, 120, 140)
_MAP_ROWS, _COLUMNS = 64, 480


def magnitude_picture(values: Float[np.ndarray, "R N"], full: float) -> str:
    """Values from 0 to `full` as orange on clear, row 0 at the top; a data URI."""
    levels = np.clip(values / (full or 1.0), 0.0, 1.0) ** 0.7
    return _data_uri((255 * levels).astype(np.uint8), _ramp(_ORANGE))


def signed_picture(values: Float[np.ndarray, "R N"]) -> str:
    """Values around zero: orange above, blue below, clear at zero; a data URI."""
    full = float(np.abs(values).max()) or 1.0
    levels = (128 + 127 * np.clip(values / full, -1.0, 1.0)).astype(np.uint8)
    above = [(*_ORANGE, 2 * i) for i in range(128)]
    below = [(*_BLUE, 255 - 2 * i) for i in range(128)]
    return _data_uri(levels, [*below, *above])


def spectrogram_picture(waveform: Float[np.ndarray, "N"]) -> str:
    """Log power from 0 to 8 kHz, 25 ms windows every 10 ms, 70 dB deep; a data URI."""
    window, hop = 400, 160
    padded = np.pad(waveform, (window // 2, window // 2 + hop))
    frames = np.lib.stride_tricks.sliding_window_view(padded, window)[::hop]
    power = np.abs(np.fft.rfft(frames * np.hanning(window), 512)) ** 2
    decibel = 10 * np.log10(pooled(power.T[::-1], 128, _COLUMNS) + 1e-12)
    levels = np.clip((decibel - decibel.max() + 70) / 70, 0, 1)
    return _data_uri((255 * levels).astype(np.uint8), _ramp(_SLATE))


def pooled(values: Float[np.ndarray, "R N"], rows: int, columns: int) -> Float[np.ndarray, "r n"]:
    """Means over neighbours, so that at most `rows` x `columns` are left."""
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
    """A `(T, D)` map as a picture: time to the right, channels in `order` from the top, pooled."""
    return pooled(values[:, order].T.astype(float), _MAP_ROWS, _COLUMNS)


def wave_path(waveform: Float[np.ndarray, "N"], columns: int = _COLUMNS) -> str:
    """Outline of a waveform as an SVG path in a box `columns` x 100."""
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
    """Encode an 8-bit palette PNG (RFC 2083): each pixel an index into colours with alpha."""
    rows, columns = levels.shape
    lines = np.concatenate([np.zeros((rows, 1), np.uint8), levels], axis=1).tobytes()
    chunks = (
        (b"IHDR", struct.pack(">IIBBBBB", columns, rows, 8, 3, 0, 0, 0)),
        (b"PLTE", bytes(part for colour in palette for part in colour[:3])),
        (b"tRNS", bytes(colour[3] for colour in palette)),
        (b"IDAT", zlib.compress(lines, 9)),
        (b"IEND", b""),
    )
    data = b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        for kind, body in chunks
    )
    return "data:image/png;base64," + base64.b64encode(data).decode()
