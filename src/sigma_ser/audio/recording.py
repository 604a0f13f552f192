"""A recording that is checked while it is read: its possible faults, and its properties."""

from __future__ import annotations

import errno
import hashlib
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType

import numpy as np
import soundfile
from jaxtyping import Float32

from sigma_ser.core.errors import AudioError

from .container import described_text, missing_bytes

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
_EXPECTED_CONTAINERS = {
    ".wav": {"WAV", "WAVEX", "RF64"}, ".flac": {"FLAC"}, ".ogg": {"OGG"}, ".mp3": {"MP3", "MPEG"},
    ".aif": {"AIFF"}, ".aiff": {"AIFF"}, ".au": {"AU"}, ".w64": {"W64"}, ".caf": {"CAF"},
}  # fmt: skip
# Errors of the operating system when a file is opened.
_SYSTEM_FAULTS = {
    errno.ENOENT: ("missing", "does not exist"),
    errno.ENOTDIR: ("missing", "does not exist"),
    errno.EACCES: ("no-permission", "may not be read; change its permissions"),
    errno.EPERM: ("no-permission", "may not be read; change its permissions"),
    errno.ELOOP: ("link-loop", "is a symbolic link that leads back to itself"),
    errno.ENAMETOOLONG: ("missing", "has a name that is too long for this file system"),
}

REASONS: dict[str, str] = {
    "missing": "the file does not exist",
    "no-permission": "the file may not be read",
    "link-loop": "a symbolic link that leads back to itself",
    "not-a-file": "a folder, pipe or device",
    "empty": "a file of 0 bytes",
    "text": "text (HTML, JSON, a Git LFS pointer ...) under an audio name",
    "unreadable": "libsndfile does not support the format, or the header is damaged",
    "damaged": "decoding stops with an error",
    "zero-frames": "a header without audio",
    "truncated": "less audio than the header declares",
    "non-finite": "NaN or infinite samples",
    "too-short": f"fewer than {MIN_SAMPLES} samples at {SAMPLE_RATE} Hz",
    "over-long": "longer than the limit",
    "silent": "no sample differs from the others by more than -80 dB of full scale",
    "channels-cancel": "the channels cancel each other: their mean is silent",
}
"""Every `reason` of an :class:`AudioError` that this package raises."""


@dataclass(frozen=True, slots=True)
class AudioFacts:
    """Properties of a recording that was read to its end.

    `sample_rate` in Hz, `num_samples` per channel, `peak` of the absolute samples, `content` the
    hash of the decoded samples with their rate (equal for a wav and its flac copy). `warnings`:
    `channels-cancel` (the mean of the channels loses most of their power), `other-container` (not
    the format of the suffix), `low-rate` (under 8 kHz), `over-full-scale` (peak above 8).
    """

    sample_rate: int
    num_samples: int
    channels: int
    peak: float
    content: str
    warnings: tuple[str, ...] = ()

    @property
    def seconds(self) -> float:
        """Duration."""
        return self.num_samples / self.sample_rate


@dataclass
class _Tally:
    """Running statistics over the blocks of a recording."""

    samples: int = 0
    low: float = np.inf  # of the mean of the channels
    high: float = -np.inf
    raw_low: float = np.inf  # of all channels
    raw_high: float = -np.inf
    power: float = 0.0
    raw_power: float = 0.0
    digest: hashlib.blake2b = field(default_factory=lambda: hashlib.blake2b(digest_size=16))


class Recording:
    """An open recording that is checked while it is read.

    Raises:
        AudioError: immediately for faults of the header, otherwise while reading.
    """

    def __init__(self, path: str | os.PathLike[str], *, max_seconds: float = MAX_SECONDS) -> None:
        self.path = Path(path)
        self.max_seconds = max_seconds
        self._tally = _Tally()
        self._check_bytes()
        # Bytes, because a POSIX file name need not be valid in any encoding.
        name = os.fsencode(self.path) if os.name == "posix" else str(self.path)
        try:
            self._file = soundfile.SoundFile(name)
        except soundfile.LibsndfileError as error:
            raise self._fault("unreadable", f"cannot be decoded ({_shown(error)})") from error
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
        return int(self._file.samplerate)

    def blocks(self) -> Iterator[Float32[np.ndarray, "samples"]]:
        """The mean of the channels at the rate of the file, about four megabytes at a time."""
        frames = max(1, _BLOCK_VALUES // self._file.channels)
        while True:
            try:
                raw = self._file.read(frames, dtype="float32", always_2d=True)
            except soundfile.LibsndfileError as error:
                raise self._fault(
                    "damaged", f"stops {self._tally.samples} samples in ({_shown(error)})"
                ) from error
            if len(raw) == 0:
                break
            yield self._checked(raw)
            if len(raw) < frames:
                break
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
            known = _SYSTEM_FAULTS.get(error.errno or 0)
            reason, what = known or ("unreadable", f"cannot be opened ({error.strerror})")
            raise self._fault(reason, what) from error
        except ValueError as error:  # a null byte in the name
            raise self._fault("missing", "has a name that is not valid for a file") from error
        if text is not None:
            raise self._fault("text", f"is {text}")

    def _check_header(self) -> None:
        missing = missing_bytes(self.path)
        if self._file.frames == 0 and missing == 0:
            raise self._fault("zero-frames", "has a header but no audio")
        # Some formats do not store their length; libsndfile then reports the largest integer.
        if self._declared() > self.max_seconds * self.sample_rate:
            raise self._over_long(self._declared() / self.sample_rate)
        if missing:
            raise self._fault(
                "truncated", f"is {missing} bytes shorter than its header declares; fetch it again"
            )
        self._tally.digest.update(f"{self.sample_rate} {self._file.channels}".encode())

    def _declared(self) -> int:
        frames = int(self._file.frames)
        return frames if frames < 1 << 62 else 0

    def _checked(
        self, raw: Float32[np.ndarray, "samples channels"]
    ) -> Float32[np.ndarray, "samples"]:
        tally = self._tally
        # The least and the greatest sample are NaN or infinite if any sample is.
        raw_low, raw_high = float(raw.min()), float(raw.max())
        if not (np.isfinite(raw_low) and np.isfinite(raw_high)):
            raise self._fault("non-finite", "has NaN or infinite samples")
        tally.digest.update(raw.data)
        tally.samples += len(raw)
        if tally.samples > self.max_seconds * self.sample_rate:
            raise self._over_long(tally.samples / self.sample_rate)
        tally.raw_low, tally.raw_high = min(tally.raw_low, raw_low), max(tally.raw_high, raw_high)
        if raw.shape[1] == 1:
            tally.low, tally.high = tally.raw_low, tally.raw_high
            return raw[:, 0]
        mono: Float32[np.ndarray, "samples"] = raw.mean(axis=1, dtype=np.float32)
        tally.low, tally.high = min(tally.low, mono.min()), max(tally.high, mono.max())
        tally.power += float(np.square(mono, dtype=np.float64).sum())
        tally.raw_power += float(np.square(raw, dtype=np.float64).sum()) / raw.shape[1]
        return mono

    def _check_end(self) -> None:
        tally = self._tally
        if tally.samples < self._declared():
            raise self._fault(
                "truncated",
                f"has {tally.samples} of the {self._declared()} samples that its header declares; "
                "fetch it again",
            )
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

    def _over_long(self, seconds: float) -> AudioError:
        return self._fault(
            "over-long",
            f"lasts {seconds:.0f} s, more than the limit of {self.max_seconds:g} s; "
            "cut it into utterances or raise max_seconds",
        )

    def _fault(self, reason: str, what: str) -> AudioError:
        return AudioError(f"{_name(self.path)} {what}", reason)


def _name(path: Path) -> str:
    """The path in one line, also where it is not valid UTF-8."""
    text = os.fsencode(path).decode("utf-8", errors="backslashreplace")
    return text if text.isprintable() else repr(text)


def _shown(error: soundfile.LibsndfileError) -> str:
    return str(error.error_string).strip().rstrip(".").removeprefix("Error : ")
