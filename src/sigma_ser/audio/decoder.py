"""The frames of any file that libsndfile decodes, up to the end of its data."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import soundfile
from jaxtyping import Float32

from .container import has_second_flac
from .streams import ByteRange, has_frame_count, ogg_links

# The MPEG audio with the most samples in a byte: 24 kHz at 8 kbit/s.
_MOST_SAMPLES_IN_A_BYTE = 24
_APPARENT = 1000
# Frames of an encoder's padding that a decoder may leave unread.
_PADDING = 8 * 1152
_EXACT_SEEKS = ("PCM_", "FLOAT", "DOUBLE", "ULAW", "ALAW")


class Decoder:
    """A file that is decoded from its beginning to its end.

    Several Ogg streams in one file are one recording.

    Args:
        path: of the file.

    Raises:
        soundfile.LibsndfileError: if libsndfile cannot open it.
        ValueError: if it consists of streams of different rates or channels.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._ranges: list[ByteRange] = []
        self._opened: list[soundfile.SoundFile] = []
        self.is_mpeg = False
        try:
            self._open()
        except BaseException:
            self.close()
            raise
        first = self._opened[0]
        self.sample_rate = int(first.samplerate)
        self.channels = int(first.channels)
        self.format = str(first.format)
        self.subtype = str(first.subtype)
        self.declared = self._declared()

    def close(self) -> None:
        """Close the file."""
        for one in (*self._opened, *self._ranges):
            one.close()

    def blocks(
        self, frames: int, start: int = 0, stop: int | None = None
    ) -> Iterator[Float32[np.ndarray, "frames channels"]]:
        """Yield the frames from `start` to before `stop`, at most `frames` at a time.

        Raises:
            soundfile.LibsndfileError: where decoding stops with an error.
        """
        at = moved = self._moved_to(start)
        for one in self._opened:
            # A tag at the end of a FLAC file is not audio, so a known number of frames is kept to.
            left = int(one.frames) - moved if self.declared else None
            moved = 0
            while (left is None or left > 0) and (stop is None or at < stop):
                count = frames if stop is None else min(frames, stop - at)
                count = count if left is None else min(count, left)
                raw = one.read(count, dtype="float32", always_2d=True)
                skipped = min(max(0, start - at), len(raw))
                at += len(raw)
                if left is not None:
                    left -= len(raw)
                if skipped < len(raw):
                    yield raw[skipped:]
                if len(raw) < count:
                    break

    def ends_within_frame(self) -> bool:
        """Whether the data of MPEG audio ended within a frame, after all frames were read."""
        return self.is_mpeg and self._ranges[0].is_cut

    def has_further_audio(self) -> bool:
        """Whether audio follows the last frame, after all frames were read."""
        if not self.is_mpeg:
            return has_second_flac(self._path)
        if not self.declared:
            return False
        whole = self._ranges[0]
        rest = ByteRange(self._path, whole.tell())
        try:
            head = rest.read(4) or b""
            is_audio = head[:1] == b"\xff" and head[1] & 0xE0 == 0xE0
            if not (head.startswith(b"ID3") or is_audio):
                return False
            rest.seek(0)
            with _sequential(rest) as further:
                return len(further.read(2 * _PADDING, dtype="float32")) > _PADDING
        except soundfile.LibsndfileError:
            return False
        finally:
            rest.close()

    def _open(self) -> None:
        # Bytes, because a POSIX file name need not be valid in any encoding.
        name = os.fsencode(self._path) if os.name == "posix" else str(self._path)
        first = _sequential(name)
        self._opened.append(first)
        self.is_mpeg = first.format in {"MP3", "MPEG"}
        if self.is_mpeg:
            counted = has_frame_count(self._path)
            apparent = None if counted else _APPARENT * self._path.stat().st_size
            self._ranges = [ByteRange(self._path, apparent_size=apparent)]
        elif first.format == "OGG" and len(links := ogg_links(self._path)) > 1:
            self._ranges = [ByteRange(self._path, *link) for link in links]
        if self._ranges:
            self._opened.pop().close()
            for part in self._ranges:
                self._opened.append(_sequential(part))
        kinds = {(one.samplerate, one.channels) for one in self._opened}
        if len(kinds) > 1:
            raise ValueError(
                "consists of streams with different sample rates or numbers of channels; "
                "write each to a file of its own"
            )

    def _declared(self) -> int:
        """The number of frames in the header; 0 if it has none or only an estimate is known."""
        frames = sum(int(one.frames) for one in self._opened)
        limit = 1 << 62
        if self.is_mpeg:
            # What libsndfile estimates from the apparent size is beyond what the file can hold.
            limit = _MOST_SAMPLES_IN_A_BYTE * self._ranges[0].size + _PADDING
        return frames if frames < limit else 0

    def _moved_to(self, start: int) -> int:
        """Seek to a frame where that is exact; the number of frames that were left out."""
        one = self._opened[0]
        exact = self.format == "FLAC" or self.subtype.startswith(_EXACT_SEEKS)
        if self.is_mpeg:
            # mpg123 rounds in another way after a seek, and soundfile.read seeks to the begin.
            return int(one.seek(0))
        if start <= 0 or len(self._opened) > 1 or not exact or not 0 < start < self.declared:
            return 0
        return int(one.seek(start))


def _sequential(source: bytes | str | ByteRange) -> soundfile.SoundFile:
    """A sound file whose reads neither seek nor stop at the number of frames in the header."""
    opened = soundfile.SoundFile(source)
    # python-soundfile seeks after each read of a file that it takes for seekable, which fails in
    # FLAC files of unknown length.
    opened.seekable = lambda: False
    return opened
