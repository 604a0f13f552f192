"""Files that appear whole or not at all, and keys that say what determines them."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import secrets
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor


@contextlib.contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Write to the yielded path; it is flushed and renamed to `path` only if nothing failed.

    >>> import tempfile
    >>> target = Path(tempfile.mkdtemp()) / "a" / "note.txt"
    >>> with whole_file(target) as aside:
    ...     _ = aside.write_text("all of it")
    >>> target.read_text()
    'all of it'
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    # The suffix stays last, because some writers choose the format by it.
    aside = path.with_name(f".{path.stem}.{secrets.token_hex(4)}{path.suffix}")
    try:
        yield aside
        descriptor = os.open(aside, os.O_RDWR)  # Windows flushes no read-only file
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        os.replace(aside, path)
    finally:
        aside.unlink(missing_ok=True)


def write_json(path: Path, value: Any) -> None:
    """Write JSON, whole or not at all."""
    with whole_file(path) as aside:
        aside.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", "utf-8")


def write_tensors(
    path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None
) -> None:
    """Write a safetensors file, whole or not at all.

    Args:
        path: of the file.
        tensors: by name; contiguous, without shared memory.
        metadata: texts of the header.

    Raises:
        OSError: if it cannot be written.
    """
    from safetensors.torch import save_file

    with whole_file(path) as aside, tensor_errors(path):
        save_file(dict(tensors), aside, None if metadata is None else dict(metadata))


@contextlib.contextmanager
def tensor_errors(path: Path) -> Iterator[None]:
    """Turn an error of safetensors while it writes `path` into an `OSError`.

    The tensors are in memory and valid, so only the file system can refuse them.
    """
    from safetensors import SafetensorError

    try:
        yield
    except SafetensorError as fault:
        raise OSError(f"cannot write {path}: {fault}") from fault


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
