"""The card of a feature store, and its index with one row for each utterance."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sigma_ser.core.errors import DamagedStoreError, StoreError
from sigma_ser.core.files import content_key, write_json
from sigma_ser.core.json_text import parse_json
from sigma_ser.core.records import Records

if TYPE_CHECKING:
    import pyarrow as pa

FORMAT = 1
CARD, INDEX = "store.json", "index.parquet"
_CARD_KEYS = ("corpus", "encoder", "encoder_key", "dtype", "shards", "shard_size")


@dataclass(frozen=True, slots=True)
class IndexRow:
    """Where the features of an utterance are; without any, `frames` is 0 and `fault` says why."""

    id: str
    label: int
    shard: int
    offset: int
    frames: int
    samples: int
    fault: str = ""


def shard_path(folder: Path, shard: int) -> Path:
    """The file of a shard."""
    return folder / "shards" / f"part-{shard:05d}.safetensors"


def store_key(card: dict[str, Any]) -> str:
    """The key of a store with this card."""
    return content_key([card["corpus"]["key"], card["encoder_key"], card["dtype"], card["format"]])


def read_card(folder: Path) -> dict[str, Any]:
    """`store.json` of a store.

    Raises:
        StoreError: if there is none, or it is of another format.
    """
    try:
        card = parse_json((folder / CARD).read_bytes())
    except FileNotFoundError as error:
        raise StoreError(
            f"{folder} is not a feature store (it has no {CARD}); make one with `sigma-ser extract`"
        ) from error
    except (OSError, ValueError) as error:
        raise _damaged_card(folder, f"cannot be read ({error})") from error
    if not isinstance(card, dict):
        raise _damaged_card(folder, "is not a JSON object")
    seal = card.pop("seal", None)
    # Cards of earlier versions have no seal.
    if seal is not None and seal != content_key(card):
        raise _damaged_card(folder, "has changed since it was written")
    if card.get("format") != FORMAT:
        raise StoreError(f"{folder} was written in another format of feature stores; extract again")
    differing = sorted(card.keys() ^ {"format", *_CARD_KEYS})
    if differing:
        what = "an unknown" if differing[0] in card else "no"
        raise _damaged_card(folder, f"has {what} key {differing[0]!r}")
    return card


def write_card(folder: Path, card: dict[str, Any]) -> None:
    """Write `store.json` with a seal, from which a changed card is recognised."""
    write_json(folder / CARD, {**card, "seal": content_key(card)})


def read_index(folder: Path) -> tuple[Records[IndexRow], dict[int, str]]:
    """The rows of `index.parquet`, and the checksum of each finished shard."""
    table, digests = read_table(folder)
    import pyarrow as pa
    import pyarrow.compute as pc

    try:
        # The file has null for no fault.
        at = table.schema.get_field_index("fault")
        table = table.set_column(at, "fault", pc.fill_null(table["fault"], ""))
        return Records.of_table(IndexRow, table), digests
    except (pa.ArrowException, KeyError, ValueError) as error:
        raise _damaged(folder, error) from error


def read_table(folder: Path) -> tuple[pa.Table, dict[int, str]]:
    """As `read_index`, with the table of the file; the table is empty if there is none.

    Raises:
        StoreError: if the file is damaged.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = folder / INDEX
    if not path.is_file():
        return table_of([]), {}
    try:
        # `pq.read_table` would import pyarrow's datasets and pandas for the same.
        with pq.ParquetFile(path, page_checksum_verification=True) as file:
            table = file.read().select([one.name for one in fields(IndexRow)])
        digests = parse_json(table.schema.metadata[b"digests"])
        return table, {int(shard): digest for shard, digest in digests.items()}
    except (pa.ArrowException, OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise _damaged(folder, error) from error


def table_of(entries: Iterable[IndexRow]) -> pa.Table:
    """The table of some rows of the index."""
    import pyarrow as pa

    whole, text = pa.int64(), pa.string()
    schema = pa.schema(
        {"id": text, "label": pa.int32(), "shard": pa.int32(), "offset": whole, "frames": whole,
         "samples": whole, "fault": text}
    )  # fmt: skip
    rows = list(entries)
    columns = {name: [getattr(entry, name) for entry in rows] for name in schema.names}
    columns["fault"] = [fault or None for fault in columns["fault"]]
    return pa.table(columns, schema=schema)


def write_index(path: Path, tables: Iterable[pa.Table], digests: dict[int, str]) -> None:
    """Write the rows of all shards to `path` (a temporary file, which the caller renames)."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    # In one chunk, so that the bytes do not depend on the order of the shards.
    whole = pa.concat_tables([table_of([]), *tables]).combine_chunks()
    metadata = {"digests": json.dumps({str(key): digests[key] for key in sorted(digests)})}
    pq.write_table(whole.replace_schema_metadata(metadata), path, write_page_checksum=True)


def _damaged(folder: Path, error: Exception) -> DamagedStoreError:
    return DamagedStoreError(
        f"{folder / INDEX} is damaged ({error}); delete it and run the study or the extraction "
        "again, which computes the features again",
        folder / INDEX,
    )


def _damaged_card(folder: Path, what: str) -> DamagedStoreError:
    return DamagedStoreError(
        f"{folder / CARD} {what}; restore it, or delete the folder {folder} and run the study or "
        "the extraction again, which computes the features again",
        folder / CARD,
    )
