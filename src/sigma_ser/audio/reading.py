"""Any file that libsndfile reads as 16 kHz mono float32, with a typed error for every fault."""

from __future__ import annotations

import os
from collections.abc import Iterator

import numpy as np
import soxr
from jaxtyping import Float32

from sigma_ser.core.utterance import Utterance

from .recording import MAX_SECONDS, SAMPLE_RATE, AudioFacts, Recording


def read_audio(
    path: str | os.PathLike[str],
    *,
    max_seconds: float = MAX_SECONDS,
    start: float | None = None,
    end: float | None = None,
) -> Float32[np.ndarray, "samples"]:
    """A recording or a segment of it at 16 kHz, one channel, float32, full scale at 1.

    Channels are averaged; soxr resamples at its highest quality (VHQ). A segment is cut at the rate
    of the file, at the nearest samples, and then resampled.

    Args:
        path: any file that libsndfile reads, whatever its suffix.
        max_seconds: limit of the duration in seconds; longer recordings are refused.
        start: begin of the segment in seconds; `None` is the begin of the file.
        end: end of the segment in seconds; `None` is the end of the file. It may be up to 50 ms
            behind the end of the file.

    Returns:
        `(samples,)`, finite, at least 400 samples, not silent.

    Raises:
        AudioError: the file cannot be used; `reason` is a key of `faults.REASONS`.
    """
    blocks = list(stream_audio(path, max_seconds=max_seconds, start=start, end=end))
    return blocks[0] if len(blocks) == 1 else np.concatenate(blocks)


def read_utterance(utterance: Utterance) -> Float32[np.ndarray, "samples"]:
    """The samples of an utterance: those of its file, or of its segment of the file.

    Raises:
        AudioError: as `read_audio`.
    """
    return read_audio(utterance.path, start=utterance.start, end=utterance.end)


def stream_audio(
    path: str | os.PathLike[str],
    *,
    max_seconds: float = MAX_SECONDS,
    start: float | None = None,
    end: float | None = None,
) -> Iterator[Float32[np.ndarray, "samples"]]:
    """The samples of `read_audio` block by block, in bounded memory.

    The joined blocks are the same samples bit for bit. Faults that are only known at the end
    (silence, a truncated file) are raised at the end.

    Raises:
        AudioError: as `read_audio`.
    """
    with Recording(path, max_seconds=max_seconds, start=start, end=end) as recording:
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


def inspect_audio(
    path: str | os.PathLike[str],
    *,
    max_seconds: float = MAX_SECONDS,
    start: float | None = None,
    end: float | None = None,
) -> AudioFacts:
    """Decode a recording or a segment and describe it; `read_audio` accepts the same.

    Nothing is resampled, so this is several times faster than reading.

    Raises:
        AudioError: as `read_audio`.
    """
    with Recording(path, max_seconds=max_seconds, start=start, end=end) as recording:
        for _ in recording.blocks():
            pass
        return recording.facts()
