"""Faults of recordings: their keys, and the errors that name the file in one line."""

from __future__ import annotations

import errno
import os
from pathlib import Path

from sigma_ser.core.errors import AudioError

REASONS: dict[str, str] = {
    "missing": "the file does not exist",
    "no-permission": "the file may not be read",
    "link-loop": "a symbolic link that leads back to itself",
    "not-a-file": "a folder, pipe or device",
    "empty": "a file of 0 bytes",
    "text": "text (HTML, JSON, a Git LFS pointer ...) under an audio name",
    "unreadable": "libsndfile does not support the format, or the header is damaged",
    "damaged": "decoding stops with an error",
    "zero-frames": "a header without audio, or one that declares no audio",
    "truncated": "less audio than the header declares, or a stream without its end",
    "concatenated": "further audio follows the end that the header declares",
    "outside": "the segment is not inside the recording",
    "non-finite": "NaN or infinite samples",
    "too-short": "fewer than 400 samples at 16000 Hz",
    "over-long": "longer than the limit",
    "silent": "no sample differs from the others by more than -80 dB of full scale",
    "channels-cancel": "the channels cancel each other: their mean is silent",
}
"""Every `reason` of an `AudioError` that this package raises."""

# Errors of the operating system when a file is opened.
_SYSTEM_FAULTS = {
    errno.ENOENT: ("missing", "does not exist"),
    errno.ENOTDIR: ("missing", "does not exist"),
    errno.EACCES: ("no-permission", "may not be read; change its permissions"),
    errno.EPERM: ("no-permission", "may not be read; change its permissions"),
    errno.ELOOP: ("link-loop", "is a symbolic link that leads back to itself"),
    errno.ENAMETOOLONG: ("missing", "has a name that is too long for this file system"),
}


def fault(path: Path, reason: str, what: str, segment: str = "") -> AudioError:
    """The error for a recording.

    Args:
        path: of the file, which need not be valid UTF-8.
        reason: a key of `REASONS`.
        what: the rest of the sentence, after the name of the file.
        segment: the part of the file, such as `1 s to 2.5 s`; empty for the whole file.
    """
    text = os.fsencode(path).decode("utf-8", errors="backslashreplace")
    name = text if text.isprintable() else repr(text)
    return AudioError(f"{name} ({segment}) {what}" if segment else f"{name} {what}", reason)


def system_fault(path: Path, error: OSError) -> AudioError:
    """The error for a file that the operating system does not open."""
    known = _SYSTEM_FAULTS.get(error.errno or 0)
    return fault(path, *(known or ("unreadable", f"cannot be opened ({error.strerror})")))
