"""Files without a reliable length: MPEG audio without a count of its frames, chained Ogg streams.

libsndfile takes the number of MPEG frames from a Xing or Info header. Without one it estimates the
number from the size of the file and the first frame, and does not read beyond that estimate.
Of several Ogg streams in one file, libsndfile reads the first.
"""

from __future__ import annotations

import io
import os
import re
from pathlib import Path
from typing import IO, Any

# "Xing" or "Info", flags that include the number of frames, and that number, which is not 0.
_FRAME_COUNT = re.compile(
    rb"(?:Xing|Info)\0\0\0[\x01\x03\x05\x07\x09\x0b\x0d\x0f](?!\0\0\0\0)", re.DOTALL
)
_HEAD = 4096
_OGG_PAGE = 27
_FIRST_PAGE, _LAST_PAGE = 2, 4  # flags of RFC 3533, section 6


class ByteRange(io.RawIOBase):
    """A part of a file as a file, for the virtual files of libsndfile.

    Args:
        path: of the file.
        start: the first byte.
        end: the byte after the last one; `None` is the end of the file.
        apparent_size: size that `seek` from the end assumes; `None` is the true one. A size far
            beyond the end makes libsndfile read to the end of the data, whatever it has estimated.

    `is_cut` is whether the last read of more than a frame header ended early.
    """

    def __init__(
        self, path: Path, start: int = 0, end: int | None = None, apparent_size: int | None = None
    ) -> None:
        self._file: IO[bytes] | None = None  # for `close`, if it cannot be opened
        super().__init__()
        self._file = path.open("rb", buffering=0)
        self._start = start
        self.size = (path.stat().st_size if end is None else end) - start
        self._apparent = self.size if apparent_size is None else apparent_size
        self._at = 0
        self.is_cut = False

    def readable(self) -> bool:
        """Always."""
        return True

    def seekable(self) -> bool:
        """Always."""
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Move to a position in the range, or beyond its end."""
        self._at = offset + {
            os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._apparent
        }[whence]  # fmt: skip
        return self._at

    def tell(self) -> int:
        """The position in the range."""
        return self._at

    def readinto(self, buffer: Any) -> int:
        """Read bytes of the range; an apparent end consists of zeros."""
        if self._at >= self.size:
            # The decoder looks for a tag in the last bytes and must find bytes there.
            count = len(buffer) if self._at >= self._apparent - 1024 > self.size else 0
            buffer[:count] = bytes(count)
            self.is_cut = self.is_cut or 4 < len(buffer) != count
        else:
            assert self._file is not None
            self._file.seek(self._start + self._at)
            content = self._file.read(min(len(buffer), self.size - self._at))
            count = len(content)
            self.is_cut = 4 < len(buffer) != count
            buffer[:count] = content
        self._at += count
        return count

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()
        super().close()


def has_frame_count(path: Path) -> bool:
    """Whether MPEG audio begins with a Xing or Info header that has the number of frames."""
    with path.open("rb") as file:
        while (head := file.read(10))[:3] == b"ID3" and len(head) == 10:
            # Sizes of ID3v2 have 7 bits in each byte.
            size = 0
            for byte in head[6:]:
                size = size << 7 | byte & 127
            file.seek(size, 1)
        return _FRAME_COUNT.search(head + file.read(_HEAD)) is not None


def ogg_links(path: Path) -> list[tuple[int, int]]:
    """The byte ranges of the successive streams of an Ogg file (RFC 3533, section 4)."""
    size = path.stat().st_size
    starts: list[int] = []
    in_header = False
    with path.open("rb") as file:
        at = 0
        while at + _OGG_PAGE <= size:
            file.seek(at)
            header = file.read(_OGG_PAGE)
            if header[:4] != b"OggS":
                break
            sizes = file.read(header[26])
            first = bool(header[5] & _FIRST_PAGE)
            if first and not in_header:
                starts.append(at)
            in_header = first
            at += _OGG_PAGE + len(sizes) + sum(sizes)
    return list(zip(starts, [*starts[1:], size], strict=True))


def ogg_has_end(path: Path) -> bool:
    """Whether the last page of an Ogg file is whole and ends the stream; true for other formats."""
    with path.open("rb") as file:
        if file.read(4) != b"OggS":
            return True
        file.seek(max(0, path.stat().st_size - 65536))
        tail = file.read()
    page = tail.rfind(b"OggS")
    if page < 0:
        return True
    header = tail[page : page + _OGG_PAGE].ljust(_OGG_PAGE, b"\0")
    sizes = tail[page + _OGG_PAGE :][: header[26]]
    length = _OGG_PAGE + header[26] + sum(sizes)
    return bool(header[5] & _LAST_PAGE) and len(tail) - page >= length
