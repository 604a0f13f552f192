"""A recording that is checked while it is read: its possible faults, and its properties."""

from __future__ import annotations

import math
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

import numpy as np
import soundfile
from jaxtyping import Float32

from sigma_ser.core.errors import AudioError

from . import faults
from .container import described_text, missing_bytes, undeclared_bytes
from .decoder import Decoder
from .streams import ogg_has_end
from .tally import Tally

SAMPLE_RATE = 16_000
"""Sample rate in Hz of all audio that this package returns."""

MIN_SAMPLES = 400
"""Receptive field of the wav2vec 2.0 family at 16 kHz: fewer samples have no frame."""

MAX_SECONDS = 120.0
"""Longer recordings are not utterances; encoders would run out of memory on them."""

# Half the range of a recording, so that a constant offset counts as silence: -80 dB of full
# scale, which is three steps of a 16-bit file.
_SILENCE = 1e-4
# Uncorrelated channels keep 1/N of their mean power in the mean of N channels.
_CANCELLED = 0.2
_LOW_RATE = 8_000
_OVER_FULL_SCALE = 8.0
_BLOCK_VALUES = 1 << 20
_LOSSLESS = ("PCM_", "FLOAT", "DOUBLE", "ALAC_")
_EXPECTED_CONTAINERS = {
    ".wav": {"WAV", "WAVEX", "RF64"}, ".flac": {"FLAC"}, ".ogg": {"OGG"}, ".mp3": {"MP3", "MPEG"},
    ".aif": {"AIFF"}, ".aiff": {"AIFF"}, ".au": {"AU"}, ".w64": {"W64"}, ".caf": {"CAF"},
}  # fmt: skip
# Ends of segments are rounded by those who write them.
_ROUNDING_SECONDS = 0.05


@dataclass(frozen=True, slots=True)
class AudioFacts:
    """Properties of a recording that was read to its end.

    `sample_rate` in Hz, `num_samples` per channel, `peak` of the absolute samples, `content` the
    hash of the decoded samples with their rate (equal for a wav and its flac copy), `subtype` the
    encoding as libsndfile names it (`PCM_16`, `MPEG_LAYER_III`). `warnings`: `channels-cancel` (the
    mean of the channels loses most of their power), `other-container` (not the format of the
    suffix), `low-rate` (under 8 kHz), `over-full-scale` (peak above 8).
    """

    sample_rate: int
    num_samples: int
    channels: int
    peak: float
    content: str
    warnings: tuple[str, ...] = ()
    subtype: str = ""

    @property
    def lossless(self) -> bool:
        """Whether the encoding keeps every sample."""
        return self.subtype.startswith(_LOSSLESS)

    @property
    def seconds(self) -> float:
        """Duration."""
        return self.num_samples / self.sample_rate


class Recording:
    """An open recording, or a segment of it, that is checked while it is read.

    Args:
        path: of the file.
        max_seconds: limit of the duration in seconds.
        start: begin of the segment in seconds; `None` is the begin of the file.
        end: end of the segment in seconds; `None` is the end of the file.

    Raises:
        AudioError: immediately for faults of the header, otherwise while reading.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        max_seconds: float = MAX_SECONDS,
        start: float | None = None,
        end: float | None = None,
    ) -> None:
        self.path = Path(path)
        self.max_seconds = max_seconds
        self._segment = shown_segment(start, end)
        self._tally = Tally()
        self._check_segment(start, end)
        self._check_bytes()
        try:
            self._file = Decoder(self.path)
        except soundfile.LibsndfileError as error:
            raise self._fault("unreadable", f"cannot be decoded ({_shown(error)})") from error
        except ValueError as error:
            raise self._fault("concatenated", str(error)) from error
        except OSError as error:
            raise faults.system_fault(self.path, error) from error
        rate = self.sample_rate
        self._start = 0 if start is None else round(start * rate)
        self._stop = None if end is None else max(self._start + 1, round(end * rate))
        try:
            self._check_header()
        except AudioError:
            self._file.close()
            raise

    def __enter__(self) -> Recording:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._file.close()

    @property
    def sample_rate(self) -> int:
        """Hz, of the file."""
        return self._file.sample_rate

    def blocks(self) -> Iterator[Float32[np.ndarray, "samples"]]:
        """The mean of the channels at the rate of the file, about four megabytes at a time."""
        frames = max(1, _BLOCK_VALUES // self._file.channels)
        try:
            for raw in self._file.blocks(frames, self._start, self._stop):
                yield self._checked(raw)
        except soundfile.LibsndfileError as error:
            if not self._file.ends_within_frame():
                raise self._fault(
                    "damaged", f"stops {self._tally.samples} samples in ({_shown(error)})"
                ) from error
        self._check_end()

    def facts(self) -> AudioFacts:
        """The properties of the recording, complete after all blocks were read."""
        tally, suffix = self._tally, self.path.suffix.lower()
        channels = self._file.channels
        peak = max(abs(tally.raw_low), abs(tally.raw_high))
        warnings = []
        if channels > 1 and tally.power * channels < _CANCELLED * tally.raw_power:
            warnings.append("channels-cancel")
        if self._file.format not in _EXPECTED_CONTAINERS.get(suffix, {self._file.format}):
            warnings.append("other-container")
        if self.sample_rate < _LOW_RATE:
            warnings.append("low-rate")
        if peak > _OVER_FULL_SCALE:
            warnings.append("over-full-scale")
        return AudioFacts(
            sample_rate=self.sample_rate,
            num_samples=tally.samples,
            channels=channels,
            peak=peak,
            content=tally.digest.hexdigest(),
            warnings=tuple(warnings),
            subtype=self._file.subtype,
        )

    def _check_segment(self, start: float | None, end: float | None) -> None:
        first, last = start or 0.0, math.inf if end is None else end
        if not 0 <= first < last or (end is not None and math.isinf(end)):
            raise self._fault(
                "outside", "is no segment; its start must be at least 0 s and before its end"
            )

    def _check_bytes(self) -> None:
        try:
            status = self.path.stat()
            if not stat.S_ISREG(status.st_mode):
                raise self._fault("not-a-file", "is a folder, pipe or device, not a recording")
            if status.st_size == 0:
                raise self._fault("empty", "is empty (0 bytes); fetch it again")
            with self.path.open("rb") as file:
                text = described_text(file.read(512))
        except OSError as error:
            raise faults.system_fault(self.path, error) from error
        except ValueError as error:  # a null byte in the name
            raise self._fault("missing", "has a name that is not valid for a file") from error
        if text is not None:
            raise self._fault("text", f"is {text}")

    def _check_header(self) -> None:
        missing, declared = missing_bytes(self.path), self._file.declared
        if behind := undeclared_bytes(self.path):
            raise self._fault(
                "zero-frames",
                f"declares 0 bytes of audio, but {behind} bytes follow its header, which a program "
                "that was stopped while it recorded leaves so; write the file again with a tool "
                "that ignores the declared size",
            )
        expected = declared - self._start
        if self._stop is not None:
            expected = self._stop - self._start
        # Some formats do not store their length.
        if expected > self.max_seconds * self.sample_rate:
            raise self._over_long(expected / self.sample_rate)
        if missing:
            raise self._fault(
                "truncated", f"is {missing} bytes shorter than its header declares; fetch it again"
            )
        self._tally.digest.update(f"{self.sample_rate} {self._file.channels}".encode())

    def _checked(
        self, raw: Float32[np.ndarray, "samples channels"]
    ) -> Float32[np.ndarray, "samples"]:
        tally = self._tally
        mono = tally.add(raw)
        if not tally.finite:
            raise self._fault("non-finite", "has NaN or infinite samples")
        if tally.samples > self.max_seconds * self.sample_rate:
            raise self._over_long(tally.samples / self.sample_rate)
        return mono

    def _check_end(self) -> None:
        tally, declared = self._tally, self._file.declared
        wanted = (declared if self._stop is None else self._stop) - self._start
        short = (wanted - tally.samples) / self.sample_rate
        if self._segment and (tally.samples == 0 or (self._stop and short > _ROUNDING_SECONDS)):
            seconds = (self._start + tally.samples) / self.sample_rate
            limit = f"which lasts {declared / self.sample_rate:.6g} s" if declared else (
                f"which ends before {seconds:.6g} s"
            )  # fmt: skip
            raise self._fault(
                "outside",
                f"is not inside the recording, {limit}; correct the segment, or leave out the "
                "columns of start and end if each file is one utterance",
            )
        if self._stop is None:
            self._check_whole(wanted)
        if tally.samples == 0:
            raise self._fault("zero-frames", "has a header but no audio")
        samples = tally.samples * SAMPLE_RATE / self.sample_rate
        if samples < MIN_SAMPLES:
            raise self._fault(
                "too-short",
                f"lasts {tally.samples / self.sample_rate * 1000:.3g} ms, less than the "
                f"{MIN_SAMPLES / SAMPLE_RATE * 1000:.3g} ms that encoders need",
            )
        if tally.high - tally.low < 2 * _SILENCE:
            if tally.raw_high - tally.raw_low >= 2 * _SILENCE and self._file.channels > 1:
                raise self._fault(
                    "channels-cancel",
                    "has channels that cancel each other, so their mean is silent; "
                    "invert one of them",
                )
            raise self._fault("silent", "is silent")

    def _check_whole(self, declared: int) -> None:
        """Raise if the file does not end where the last sample was read."""
        samples = self._tally.samples
        if samples < declared:
            raise self._fault(
                "truncated",
                f"has {samples} of the {declared} samples that its header declares; fetch it again",
            )
        if self._file.ends_within_frame():
            raise self._fault(
                "truncated", f"ends within a frame after {samples} samples; fetch it again"
            )
        if not ogg_has_end(self.path):
            raise self._fault(
                "truncated",
                f"has {samples / self.sample_rate:.6g} s of audio but no page that ends the "
                "stream, so it is cut off or was copied from a live stream; fetch it again, or "
                "write the part that is there to a new file",
            )
        if self._file.has_further_audio():
            raise self._fault(
                "concatenated",
                f"has further audio behind the {samples} samples that its header declares; split "
                "it into one file for each recording",
            )

    def _over_long(self, seconds: float) -> AudioError:
        return self._fault(
            "over-long",
            f"lasts {seconds:.0f} s, more than the limit of {self.max_seconds:g} s; "
            "cut it into utterances or raise max_seconds",
        )

    def _fault(self, reason: str, what: str) -> AudioError:
        return faults.fault(self.path, reason, what, self._segment)


def shown_segment(start: float | None, end: float | None) -> str:
    """A segment as text; empty for the whole file.

    >>> shown_segment(None, 2.5), shown_segment(1.0, None), shown_segment(None, None)
    ('0 s to 2.5 s', '1 s to the end', '')
    """
    if start is None and end is None:
        return ""
    return f"{start or 0:.6g} s to {'the end' if end is None else f'{end:.6g} s'}"


def _shown(error: soundfile.LibsndfileError) -> str:
    return str(error.error_string).strip().rstrip(".").removeprefix("Error : ")
