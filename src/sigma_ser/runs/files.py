"""Small files of a run, read so that damage is reported in one sentence."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor

from sigma_ser.core.errors import RunError
from sigma_ser.core.json_text import parse_json

if TYPE_CHECKING:
    import pyarrow as pa

# What to do about a damaged artefact: the next run computes what is missing and nothing else.
MAKE_ANEW = "delete it and run again: it is computed again, and the rest is kept"


def read_object(path: Path, keys: Iterable[str], advice: str) -> dict[str, Any]:
    """A JSON object that has these keys.

    Args:
        path: of the file.
        keys: what must be in it.
        advice: what to do about a missing or damaged file; the end of the sentence.

    Raises:
        RunError: if it is missing or damaged, or another version wrote it.
    """
    values = _read(path, advice)
    lacking = [key for key in keys if not isinstance(values, dict) or key not in values]
    if not isinstance(values, dict) or lacking:
        what = f"has no {lacking[0]!r}" if lacking else "is not a JSON object"
        raise RunError(
            f"{path} {what}: it is damaged, or another version of sigma-ser wrote it; {advice}"
        )
    return values


def read_objects(path: Path, keys: Iterable[str], advice: str) -> list[dict[str, Any]]:
    """A JSON list of objects that have these keys.

    Raises:
        RunError: as `read_object`.
    """
    values = _read(path, advice)
    whole = isinstance(values, list) and all(
        isinstance(one, dict) and set(keys) <= one.keys() for one in values
    )
    if not whole:
        raise RunError(
            f"{path} is not a list of objects with {', '.join(keys)}: it is damaged, or another "
            f"version of sigma-ser wrote it; {advice}"
        )
    return list(values)


def read_tensors(path: Path, advice: str = MAKE_ANEW) -> dict[str, Tensor]:
    """The tensors of an artefact.

    Args:
        path: of the file.
        advice: what to do about a damaged file; ends the sentence.

    Raises:
        RunError: if it is damaged.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        tensors: dict[str, Tensor] = load_file(path)
    except (OSError, SafetensorError) as fault:
        raise RunError(f"{path} is damaged ({fault}); {advice}") from fault
    return tensors


def read_part(path: Path, columns: pa.Schema) -> pa.Table:
    """One part of the rows or replays of a run, with these columns.

    Raises:
        RunError: if it is damaged, or another version wrote it.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        return pq.ParquetFile(path).read().select(columns.names).cast(columns)
    except (OSError, pa.ArrowException, KeyError) as fault:
        # A page that cannot be decompressed is an OSError as well, but without a number.
        if isinstance(fault, OSError) and fault.errno is not None:
            raise
        raise RunError(f"{path} is damaged ({fault}); {MAKE_ANEW}") from fault


def _read(path: Path, advice: str) -> Any:
    try:
        return parse_json(path.read_text("utf-8"))
    except OSError as fault:
        raise RunError(f"{path} cannot be read ({fault.strerror}); {advice}") from fault
    except ValueError as fault:
        raise RunError(f"{path} is damaged ({fault}); {advice}") from fault
