"""Finding recordings below a folder, and ids for them that are safe as file names."""

from __future__ import annotations

import hashlib
import os
import re
import unicodedata
from collections import Counter, deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote

from sigma_ser.core.errors import CorpusError
from sigma_ser.core.records import ColumnBuilder

AUDIO_SUFFIXES = frozenset(
    {
        ".wav", ".wave", ".bwf", ".flac", ".aif", ".aiff", ".aifc", ".au", ".caf", ".mp1", ".mp2",
        ".mp3", ".mpga", ".nist", ".oga", ".ogg", ".opus", ".rf64", ".snd", ".sph", ".voc", ".w64",
    }
)  # fmt: skip
"""Suffixes of recordings that libsndfile reads, in any case."""

OTHER_SUFFIXES = frozenset(
    {
        ".3gp", ".aac", ".ac3", ".amr", ".ape", ".avi", ".flv", ".m4a", ".m4b", ".mka", ".mkv",
        ".mov", ".mp4", ".mpeg", ".mpg", ".ra", ".spx", ".tta", ".webm", ".wma", ".wmv", ".wv",
    }
)  # fmt: skip
"""Suffixes of recordings and films that libsndfile does not read, in any case."""

_OTHERS = tuple(OTHER_SUFFIXES)
_LONGEST_ID = 120
# Windows reserves these names for devices, with any suffix.
_RESERVED = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?", re.IGNORECASE)


@dataclass
class Found:
    """Recordings in the order of their relative paths, unreadable folders, and notes.

    `others` are recordings and films in formats that libsndfile does not read.
    """

    files: Sequence[Path] = ()
    others: list[Path] = field(default_factory=list)
    unreadable: list[tuple[Path, str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def find_files(root: Path, suffixes: Iterable[str] = AUDIO_SUFFIXES) -> Found:
    """All files with such a suffix below `root` (recordings by default), each folder visited once.

    Symbolic links to folders are followed, after all real folders, and never twice. The `._*`
    files and `__MACOSX` folders of macOS archives and hidden folders are left out.

    Raises:
        CorpusError: if `root` is not a folder.
    """
    root = Path(os.path.abspath(root))
    if not root.is_dir():
        fault = "is a file" if root.exists() else "does not exist"
        raise CorpusError(f"the corpus folder {root} {fault}; give the folder with the recordings")
    endings = tuple(suffixes)
    found, skipped = Found(), Counter[str]()
    files: list[str] = []
    visited: set[tuple[int, int]] = set()
    folders, linked = deque([root]), deque[Path]()
    while folders or linked:
        folder = folders.popleft() if folders else linked.popleft()
        try:
            status = folder.stat()
            if (status.st_dev, status.st_ino) in visited:
                continue
            visited.add((status.st_dev, status.st_ino))
            children = list(os.scandir(folder))
        except OSError as error:
            found.unreadable.append((folder, f"{folder} cannot be listed ({error.strerror})"))
            continue
        for child in children:
            if _is_folder(child):
                if child.name == "__MACOSX" or child.name.startswith("."):
                    skipped["hidden folders"] += 1
                else:
                    (linked if child.is_symlink() else folders).append(Path(child.path))
            elif child.name.lower().endswith(endings):
                if child.name.startswith("._"):
                    skipped["macOS resource files (._*)"] += 1
                else:
                    files.append(child.path)
            elif child.name.lower().endswith(_OTHERS) and not child.name.startswith("._"):
                found.others.append(Path(child.path))
    found.others.sort()
    files.sort(key=lambda path: path.replace(os.sep, "/"))
    found.files = ColumnBuilder[Path](Path, map(Path, files)).column()
    found.notes += [f"{count} {what} were left out" for what, count in sorted(skipped.items())]
    return found


def _is_folder(child: os.DirEntry[str]) -> bool:
    try:
        return child.is_dir()
    except OSError:  # a link to itself
        return False


def safe_id(text: str) -> str:
    """A name for `text` of at most 120 ASCII characters that is valid on any file system.

    Letters, digits, `-`, `_` and `.` stay; blanks become `_` and slashes `-`; the rest is
    percent-encoded. A longer name is cut and ends with a hash of the text.

    >>> safe_id("happy/take 1.a")
    'happy-take_1.a'
    >>> safe_id(".."), safe_id("Ä"), safe_id("nul")
    ('%2E%2E', '%C3%84', '_nul')
    """
    raw = os.fsencode(unicodedata.normalize("NFC", text))
    name = quote(raw.replace(b" ", b"_").replace(b"/", b"-"), safe="").replace("~", "%7E")
    # Hidden files, options of commands, and final dots, which Windows removes.
    if name.strip(".") == "":
        name = "%2E" * len(name)
    elif name[0] in ".-":
        name = f"%{ord(name[0]):02X}{name[1:]}"
    if name.endswith("."):
        name = f"{name[:-1]}%2E"
    if _RESERVED.fullmatch(name):
        name = f"_{name}"
    if len(name) > _LONGEST_ID:
        name = f"{name[: _LONGEST_ID - 17]}~{_short_hash(raw)}"
    return name or f"~{_short_hash(raw)}"


def unique_ids(paths: Iterable[str]) -> list[str]:
    """A safe id for each path, without its suffix; equal ids get a hash of their paths.

    Ids that differ only in case count as equal, as file names do on some systems. An id depends on
    its own path and on those with an equal id, never on the order.

    Args:
        paths: all different.

    >>> unique_ids(["a b.wav", "c.wav", "c.1", "a_b.wav"])
    ['a_b~4bda0f0473cae181', 'c', 'c.1', 'a_b~0be87b43672952d6']
    """
    paths = list(paths)
    ids = [safe_id(_without_suffix(path)) for path in paths]
    count = Counter(name.casefold() for name in ids)
    return [
        name if count[name.casefold()] == 1 else f"{name[:100]}~{_short_hash(os.fsencode(path))}"
        for name, path in zip(ids, paths, strict=True)
    ]


def _without_suffix(path: str) -> str:
    head, dot, tail = path.rpartition(".")
    return head if head and f"{dot}{tail}".lower() in AUDIO_SUFFIXES else path


def _short_hash(raw: bytes) -> str:
    return hashlib.blake2b(raw, digest_size=8).hexdigest()
