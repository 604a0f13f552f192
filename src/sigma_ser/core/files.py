"""Files that appear whole or not at all, and keys that say what determines them."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import re
import secrets
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

if TYPE_CHECKING:
    from torch import Tensor


# Called with the final path and the complete file, before that is renamed to the path.
Seal = Callable[[Path, Path], None]


@runtime_checkable
class FileRecord(Protocol):
    """Records the digest of each file that is written, and checks the files that are read."""

    def seal(self, path: Path, whole: Path) -> None:
        """Record a complete file that is about to be renamed to `path`; see `Seal`."""

    def check(self, path: Path) -> None:
        """Raise a `DamagedError` if a file has changed since it was recorded."""


# Seconds after which another process has surely been killed while it wrote one file.
_ABANDONED = 3600.0
# Folders of files that are being written, and what earlier versions left in their place.
_UNFINISHED = re.compile(r"\..+\.[0-9a-f]{8}(\.[a-z]+)?|\.tmp\w{6}")


@contextlib.contextmanager
def whole_file(path: Path, seal: Seal | None = None) -> Iterator[Path]:
    """Write to the yielded path; the file is flushed and renamed to `path` only if nothing failed.

    The yielded path lies in a hidden folder of its own beside `path`, together with what the writer
    puts beside its file (safetensors writes a temporary file). A process that is killed leaves that
    folder. `remove_unfinished` removes it, and so does the next write beside it, one hour
    later.

    Args:
        path: of the file.
        seal: receives the path and the complete file before the file is renamed.

    >>> import tempfile
    >>> target = Path(tempfile.mkdtemp()) / "a" / "note.txt"
    >>> with whole_file(target) as aside:
    ...     _ = aside.write_text("all of it")
    >>> target.read_text()
    'all of it'
    """
    remove_unfinished(path.parent, below=False, older_than=_ABANDONED)
    folder = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    folder.mkdir(parents=True)
    aside = folder / path.name
    try:
        yield aside
        descriptor = os.open(aside, os.O_RDWR)  # Windows flushes no read-only file
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        if seal is not None:
            seal(path, aside)
        os.replace(aside, path)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def unfinished(folder: Path, *, below: bool = True) -> Iterator[Path]:
    """What processes have left in a folder in the middle of writing a file.

    Args:
        folder: the folder; it need not exist.
        below: whether to search all folders below it as well.
    """
    for place, folders, names in os.walk(folder):
        found = [name for name in (*folders, *names) if _UNFINISHED.fullmatch(name)]
        folders[:] = [name for name in folders if below and name not in found]
        yield from (Path(place) / name for name in found)


def remove_unfinished(folder: Path, *, below: bool = True, older_than: float = 0.0) -> None:
    """Remove what killed processes have left in a folder in the middle of writing a file.

    Args:
        folder: the folder; it need not exist.
        below: whether to search all folders below it as well.
        older_than: age in seconds; 0 is right only where no other process writes to the folder.
    """
    now = time.time()
    for path in unfinished(folder, below=below):
        with contextlib.suppress(FileNotFoundError):
            if older_than and now - path.stat().st_mtime < older_than:
                continue
            remove(path)


def remove(path: Path) -> None:
    """Remove a file, or a folder with its contents; a missing one is no error."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def write_text(path: Path, text: str, seal: Seal | None = None) -> None:
    """Write UTF-8 text, whole or not at all; `seal` as for `whole_file`."""
    with whole_file(path, seal) as aside:
        aside.write_text(text, "utf-8")


def write_json(path: Path, value: Any, seal: Seal | None = None) -> None:
    """Write JSON, whole or not at all; `seal` as for `whole_file`."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n", seal)


def write_tensors(
    path: Path,
    tensors: Mapping[str, Tensor],
    metadata: Mapping[str, str] | None = None,
    seal: Seal | None = None,
) -> None:
    """Write a safetensors file, whole or not at all.

    Args:
        path: of the file.
        tensors: by name; contiguous, without shared memory.
        metadata: texts of the header.
        seal: as for `whole_file`.

    Raises:
        OSError: if it cannot be written.
    """
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    with whole_file(path, seal) as aside:
        try:
            save_file(dict(tensors), aside, None if metadata is None else dict(metadata))
        except SafetensorError as fault:
            # The tensors are in memory and valid, so only the file system can refuse them.
            raise OSError(errno.EIO, f"cannot be written ({fault})", str(path)) from fault


def file_digest(path: Path) -> str:
    """The checksum of a file: BLAKE2b, 32 hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).hexdigest()


def content_key(value: Any, digits: int = 16) -> str:
    """A stable key for plain data: the hash of its canonical JSON.

    >>> content_key({"b": 1, "a": 2}) == content_key({"a": 2, "b": 1})
    True
    """
    return hashlib.blake2b(_canonical(value), digest_size=32).hexdigest()[:digits]


def content_key_of_many(values: Iterable[Any], digits: int = 16) -> str:
    """`content_key` of a list, without having all of it at once.

    >>> content_key_of_many(iter([1, "a"])) == content_key([1, "a"])
    True
    """
    whole = hashlib.blake2b(b"[", digest_size=32)
    for number, value in enumerate(values):
        whole.update(b"," * (number > 0) + _canonical(value))
    whole.update(b"]")
    return whole.hexdigest()[:digits]


def _canonical(value: Any) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def safe_name(name: str) -> str:
    """The same name with letters, digits, '.', '_' and '-' alone; never '.', '..' or empty.

    >>> safe_name("a b/../c")
    'a_b_.._c'
    """
    kept = re.sub(r"[^A-Za-z0-9._-]+", "_", name)
    return kept if kept.strip(".") else "_"
