"""Checks of the first and last bytes of a file: not audio, or shorter than its header declares.

libsndfile reads a truncated wav without complaint, so the sizes in the header are compared with
that of the file. Formats whose frames check themselves (FLAC, MP3) are left to the decoder.
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import BinaryIO

# Writers that cannot seek back (pipes, live streams) write these instead of the size.
_UNKNOWN_SIZES = frozenset({0, 0x7FFFFFFF, 0xFFFFFFFF, 0xFFFFFFFFFFFFFFFF, 0x7FFFFFFFFFFFFFFF})
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

    Covers WAV (RIFF, RIFX, RF64), Wave64, AIFF, AU and Ogg; 0 for other formats, and for headers
    whose writer did not know the size. The result for a truncated Ogg stream is 1, since its header
    does not declare a size.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        magic = file.read(4)
        if magic in (b"RIFF", b"RIFX", b"RF64"):
            end = _end_of_riff(file, ">" if magic == b"RIFX" else "<", size)
        elif magic == b"FORM":
            end = _end_of_chunk(file, b"SSND", ">", 12, size)
        elif magic == b"riff":
            end = _end_of_wave64(file, size)
        elif magic == b".snd":
            offset, data = struct.unpack(">II", file.read(8).ljust(8, b"\0"))
            end = 0 if data in _UNKNOWN_SIZES else offset + data
        elif magic == b"OggS":
            return 0 if _ogg_is_whole(file, size) else 1
        else:
            end = 0
    return max(0, end - size)


def _end_of_riff(file: BinaryIO, order: str, size: int) -> int:
    """The end of the `data` chunk of a WAV by its declared size, which RF64 has in `ds64`."""
    long_size = 0
    file.seek(12)
    for _ in range(_MAX_CHUNKS):
        header = file.read(8)
        if len(header) < 8:
            return 0
        name, length = struct.unpack(f"{order}4sI", header)
        if name == b"data":
            length = long_size or length
            return 0 if length in _UNKNOWN_SIZES else file.tell() + length
        if name == b"ds64":
            content = file.read(16)
            if len(content) < 16:
                return 0
            long_size = struct.unpack("<QQ", content)[1]
            length -= 16
        if length > size:
            return 0
        file.seek(length + length % 2, 1)
    return 0


def _end_of_chunk(file: BinaryIO, wanted: bytes, order: str, first: int, size: int) -> int:
    """The end of the chunk `wanted` by its declared size."""
    file.seek(first)
    for _ in range(_MAX_CHUNKS):
        header = file.read(8)
        if len(header) < 8:
            return 0
        name, length = struct.unpack(f"{order}4sI", header)
        if name == wanted:
            return 0 if length in _UNKNOWN_SIZES else file.tell() + length
        if length > size:
            return 0
        file.seek(length + length % 2, 1)
    return 0


def _end_of_wave64(file: BinaryIO, size: int) -> int:
    """The end of the `data` chunk of a Sony Wave64, whose sizes include the header of 24 bytes."""
    file.seek(40)
    for _ in range(_MAX_CHUNKS):
        header = file.read(24)
        if len(header) < 24:
            return 0
        name, length = struct.unpack("<16sQ", header)
        if name == _W64_DATA:
            return 0 if length in _UNKNOWN_SIZES else file.tell() - 24 + length
        if length < 24 or length > size:
            return 0
        file.seek(-(-length // 8) * 8 - 24, 1)
    return 0


def _ogg_is_whole(file: BinaryIO, size: int) -> bool:
    """Whether the last page has the end-of-stream flag (RFC 3533, section 6)."""
    file.seek(max(0, size - 65536))
    tail = file.read()
    page = tail.rfind(b"OggS")
    return page < 0 or len(tail) < page + 6 or bool(tail[page + 5] & 4)
