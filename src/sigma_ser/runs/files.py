"""Small files of a run, read so that damage is reported in one sentence."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor

from sigma_ser.core.errors import DamagedRunError, RunError
from sigma_ser.core.json_text import parse_json

if TYPE_CHECKING:
    import pyarrow as pa

# Names that a JSON object must have, or the type of the value of each.
Keys = Iterable[str] | Mapping[str, type | tuple[type, ...]]

# What to do about a damaged artefact: the next run computes what is missing and nothing else.
MAKE_ANEW = "delete it and run again: it is computed again, and the rest is kept"


def read_object(path: Path, keys: Keys, advice: str) -> dict[str, Any]:
    """A JSON object that has these keys.

    Args:
        path: of the file.
        keys: what must be in it, and of which type.
        advice: what to do about a missing or damaged file; the end of the sentence.

    Raises:
        DamagedRunError: if it is missing or damaged, or another version wrote it.
        RunError: if it cannot be opened.
    """
    values = _read(path, advice)
    if wrong := lacking(values, keys):
        raise DamagedRunError(
            f"{path} {wrong}: it is damaged, or another version of sigma-ser wrote it; {advice}",
            path,
        )
    return dict(values)


def read_objects(path: Path, keys: Keys, advice: str) -> list[dict[str, Any]]:
    """A JSON list of objects that have these keys.

    Raises:
        RunError: as `read_object`.
    """
    values = _read(path, advice)
    if not isinstance(values, list) or any(lacking(one, keys) for one in values):
        raise DamagedRunError(
            f"{path} is not a list of objects with {', '.join(keys)}: it is damaged, or another "
            f"version of sigma-ser wrote it; {advice}",
            path,
        )
    return list(values)


def read_tensors(path: Path) -> dict[str, Tensor]:
    """The tensors of an artefact.

    Raises:
        DamagedRunError: if it is missing or damaged.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        tensors: dict[str, Tensor] = load_file(path)
    except (OSError, SafetensorError) as fault:
        raise DamagedRunError(f"{path} is damaged ({fault}); {MAKE_ANEW}", path) from fault
    return tensors


def read_part(path: Path, columns: pa.Schema) -> pa.Table:
    """One part of the rows or replays of a run, with these columns.

    Raises:
        DamagedRunError: if it is damaged, or another version wrote it.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        return pq.ParquetFile(path).read().select(columns.names).cast(columns)
    except (OSError, pa.ArrowException, KeyError) as fault:
        # A page that cannot be decompressed is an OSError as well, but without a number.
        if isinstance(fault, OSError) and fault.errno is not None:
            raise
        raise DamagedRunError(f"{path} is damaged ({fault}); {MAKE_ANEW}", path) from fault


def _read(path: Path, advice: str) -> Any:
    try:
        return parse_json(path.read_bytes())
    except FileNotFoundError as fault:
        raise DamagedRunError(f"{path} is missing; {advice}", path) from fault
    except OSError as fault:
        raise RunError(f"{path} cannot be read ({fault.strerror}); {advice}") from fault
    except ValueError as fault:
        raise DamagedRunError(f"{path} is damaged ({fault}); {advice}", path) from fault


def lacking(values: Any, keys: Keys) -> str:
    """What an object lacks, as the predicate of a sentence; empty if it is right."""
    if not isinstance(values, dict):
        return "is not a JSON object"
    for key in keys:
        if key not in values:
            return f"has no {key!r}"
        if isinstance(keys, Mapping) and not isinstance(values[key], keys[key]):
            return f"has an unusable {key!r}"
    return ""
