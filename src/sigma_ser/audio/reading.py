"""Any file that libsndfile reads as 16 kHz mono float32, with a typed error for every fault."""

from __future__ import annotations

import os
from collections.abc import Iterator

import numpy as np
import soxr
from jaxtyping import Float32

from .recording import MAX_SECONDS, SAMPLE_RATE, AudioFacts, Recording


def read_audio(
    path: str | os.PathLike[str], *, max_seconds: float = MAX_SECONDS
) -> Float32[np.ndarray, "samples"]:
    """The whole recording at 16 kHz, one channel, float32, full scale at 1.

    Channels are averaged; soxr resamples at its highest quality (VHQ).

    Args:
        path: any file that libsndfile reads, whatever its suffix.
        max_seconds: limit of the duration in seconds; longer recordings are refused.

    Returns:
        `(samples,)`, finite, at least 400 samples, not silent.

    Raises:
        AudioError: the file cannot be used; `reason` is a key of `recording.REASONS`.
    """
    blocks = list(stream_audio(path, max_seconds=max_seconds))
    return blocks[0] if len(blocks) == 1 else np.concatenate(blocks)


def stream_audio(
    path: str | os.PathLike[str], *, max_seconds: float = MAX_SECONDS
) -> Iterator[Float32[np.ndarray, "samples"]]:
    """The samples of :func:`read_audio` block by block, in bounded memory.

    The joined blocks are the same samples bit for bit. Faults that are only known at the end
    (silence, a truncated file) are raised at the end.

    Raises:
        AudioError: as :func:`read_audio`.
    """
    with Recording(path, max_seconds=max_seconds) as recording:
        rate = recording.sample_rate
        if rate == SAMPLE_RATE:
            yield from recording.blocks()
            return
        resampler = soxr.ResampleStream(rate, SAMPLE_RATE, 1, dtype="float32", quality="VHQ")
        # One block is held back, because the resampler needs to know which one is the last.
        held: Float32[np.ndarray, "_"] | None = None
        for block in recording.blocks():
            if held is not None:
                yield resampler.resample_chunk(held)
            held = block
        if held is not None:
            yield resampler.resample_chunk(held, last=True)


def inspect_audio(path: str | os.PathLike[str], *, max_seconds: float = MAX_SECONDS) -> AudioFacts:
    """Decode a recording to its end and describe it; `read_audio` reads what this accepts.

    Nothing is resampled, so this is several times faster than reading.

    Raises:
        AudioError: as :func:`read_audio`.
    """
    with Recording(path, max_seconds=max_seconds) as recording:
        for _ in recording.blocks():
            pass
        return recording.facts()
