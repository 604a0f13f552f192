"""What lies beside the shards of a store: its card, and one row for each utterance."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from sigma_ser.core.errors import StoreError
from sigma_ser.core.files import content_key

FORMAT = 1
CARD, INDEX = "store.json", "index.parquet"
_BLOCK = 1 << 20


@dataclass(frozen=True, slots=True)
class Entry:
    """Where the features of an utterance lie; `frames` is 0 and `fault` set where it has none."""

    id: str
    label: int
    shard: int
    offset: int
    frames: int
    samples: int
    fault: str | None = None


def shard_path(folder: Path, shard: int) -> Path:
    """The file of a shard."""
    return folder / "shards" / f"part-{shard:05d}.safetensors"


def file_digest(path: Path) -> str:
    """The checksum of a file: BLAKE2b, 32 hexadecimal digits."""
    whole = hashlib.blake2b(digest_size=16)
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            whole.update(block)
    return whole.hexdigest()


def store_key(card: dict[str, Any]) -> str:
    """The key of a store with this card."""
    return content_key([card["corpus"]["key"], card["encoder_key"], card["dtype"], card["format"]])


def read_card(folder: Path) -> dict[str, Any]:
    """`store.json` of a store.

    Raises:
        StoreError: if there is none, or it is of another format.
    """
    try:
        card = json.loads((folder / CARD).read_text("utf-8"))
    except FileNotFoundError as error:
        raise StoreError(
            f"{folder} is no feature store (it has no {CARD}); make one with `sigma-ser extract`"
        ) from error
    except (OSError, ValueError) as error:
        raise StoreError(f"{folder / CARD} cannot be read ({error}); extract again") from error
    if not isinstance(card, dict) or card.get("format") != FORMAT:
        raise StoreError(f"{folder} was written in another format of feature stores; extract again")
    return card


def read_index(folder: Path) -> tuple[list[Entry], dict[int, str]]:
    """The rows of `index.parquet`, and the checksum of each finished shard."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = folder / INDEX
    if not path.is_file():
        return [], {}
    try:
        # `pq.read_table` would import pyarrow's datasets and pandas for the same.
        with pq.ParquetFile(path) as file:
            table = file.read()
        digests = json.loads(table.schema.metadata[b"digests"])
        names = [one.name for one in fields(Entry)]
        columns = [column.to_pylist() for column in table.select(names).columns]
        entries = [Entry(*row) for row in zip(*columns, strict=True)]
    except (pa.ArrowException, OSError, ValueError, KeyError, TypeError) as error:
        raise StoreError(
            f"{path} is damaged ({error}); delete it and run the study or the extraction again, "
            "which makes the features anew"
        ) from error
    return entries, {int(shard): digest for shard, digest in digests.items()}


def write_index(path: Path, entries: Sequence[Entry], digests: dict[int, str]) -> None:
    """Write the index to `path` (a file aside, which the caller renames)."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    whole, text = pa.int64(), pa.string()
    schema = pa.schema(
        {"id": text, "label": pa.int32(), "shard": pa.int32(), "offset": whole, "frames": whole,
         "samples": whole, "fault": text},
        metadata={"digests": json.dumps({str(key): digests[key] for key in sorted(digests)})},
    )  # fmt: skip
    columns = {name: [getattr(entry, name) for entry in entries] for name in schema.names}
    pq.write_table(pa.table(columns, schema=schema), path)
