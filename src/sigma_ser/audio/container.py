"""Checks of the first and last bytes of a file: not audio, or a size that does not fit the header.

libsndfile reads a truncated wav without complaint, so the sizes in the header are compared with
that of the file. Formats whose frames check themselves (FLAC, MP3) are left to the decoder, and
those that consist of pages or frames are in `streams`.
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import BinaryIO

# Writers that cannot seek back (pipes, live streams) write a size near the largest one: 7FFFF000
# and 7F000000 (SoX), 7FFFFFFF, 80000000, FFFFFFFF, or FFFFFFFF less the size of the header.
_STREAM_SIZE = 0x7EFF_0000
_STREAM_SIZE_64 = 1 << 62
_MAX_CHUNKS = 1000
_W64_DATA = bytes.fromhex("64617461f3acd3118cd100c04f8edb8a")
_SNIFFED = 512


def described_text(head: bytes) -> str | None:
    """The kind of text that a file begins with, or `None` where it may be audio.

    >>> described_text(b"<!DOCTYPE html><html>")
    'an HTML page'
    >>> described_text(b"RIFF\\x24\\x00\\x00\\x00WAVEfmt ") is None
    True
    """
    start = head.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if start.startswith((b"<!doctype html", b"<html")):
        return "an HTML page"
    if start.startswith(b"version https://git-lfs"):
        return "a Git LFS pointer; fetch the recording with `git lfs pull`"
    if start.startswith((b"<?xml", b"<svg")):
        return "an XML file"
    if start.startswith((b"{", b"[")):
        return "JSON"
    # No binary header of this length is without a control byte.
    text = head[:_SNIFFED].decode("utf-8", errors="ignore")
    printable = all(char.isprintable() or char in "\t\r\n" for char in text)
    return "plain text" if printable and len(text) >= len(head[:_SNIFFED]) // 2 else None


def missing_bytes(path: Path) -> int:
    """The number of bytes of audio that the header declares beyond the end of the file, at least 0.

    Covers WAV (RIFF, RIFX, RF64), Wave64, AIFF and AU; 0 for other formats, and for headers whose
    writer did not know the size.
    """
    size = path.stat().st_size
    start, declared, limit = _data_chunk(path, size)
    return max(0, start + declared - size) if 0 < declared < limit else 0


def undeclared_bytes(path: Path) -> int:
    """The number of bytes behind a header of WAV, Wave64, AIFF or AU that declares no audio."""
    size = path.stat().st_size
    start, declared, _ = _data_chunk(path, size)
    if not start or declared or start >= size:
        return 0
    with path.open("rb") as file:
        file.seek(start)
        header = file.read(8)
    name, length = header[:4], header[4:8]
    # Other chunks may follow an empty one.
    whole = len(header) == 8 and name.isascii() and name.decode("ascii").isprintable()
    fits = (int.from_bytes(length, order) <= size - start for order in ("little", "big"))
    return 0 if whole and any(fits) else size - start


def has_second_flac(path: Path) -> bool:
    """Whether another FLAC stream follows the one at the beginning of a file."""
    with path.open("rb") as file:
        if file.read(4) != b"fLaC":
            return False
        before = b""
        while block := file.read(1 << 20):
            # The marker with the header of the block STREAMINFO, which is always the first one.
            joined = before + block
            if b"fLaC\0\0\0\x22" in joined or b"fLaC\x80\0\0\x22" in joined:
                return True
            before = joined[-7:]
    return False


def _data_chunk(path: Path, size: int) -> tuple[int, int, int]:
    """The offset of the samples, their declared size, and the limit from which it is unknown."""
    with path.open("rb") as file:
        magic = file.read(4)
        if magic in (b"RIFF", b"RIFX", b"RF64"):
            return _riff_data(file, ">" if magic == b"RIFX" else "<", size)
        if magic == b"FORM":
            return _riff_data(file, ">", size, b"SSND")
        if magic == b"riff":
            return _wave64_data(file, size)
        if magic == b".snd":
            offset, length = struct.unpack(">II", file.read(8).ljust(8, b"\0"))
            return offset, length, _STREAM_SIZE
    return 0, 0, 0


def _riff_data(
    file: BinaryIO, order: str, size: int, wanted: bytes = b"data"
) -> tuple[int, int, int]:
    """The chunk `wanted` of a RIFF or FORM file; RF64 has its size in `ds64`."""
    long_size = 0
    file.seek(12)
    for _ in range(_MAX_CHUNKS):
        header = file.read(8)
        if len(header) < 8:
            break
        name, length = struct.unpack(f"{order}4sI", header)
        if name == wanted:
            if long_size:
                return file.tell(), long_size, _STREAM_SIZE_64
            return file.tell(), length, _STREAM_SIZE
        if name == b"ds64":
            content = file.read(16)
            if len(content) < 16:
                break
            long_size = struct.unpack("<QQ", content)[1]
            length -= 16
        if length > size:
            break
        file.seek(length + length % 2, 1)
    return 0, 0, 0


def _wave64_data(file: BinaryIO, size: int) -> tuple[int, int, int]:
    """The `data` chunk of a Sony Wave64, whose sizes include the header of 24 bytes."""
    file.seek(40)
    for _ in range(_MAX_CHUNKS):
        header = file.read(24)
        if len(header) < 24:
            break
        name, length = struct.unpack("<16sQ", header)
        if name == _W64_DATA:
            return file.tell(), max(0, length - 24), _STREAM_SIZE_64
        if length < 24 or length > size:
            break
        file.seek(-(-length // 8) * 8 - 24, 1)
    return 0, 0, 0
