"""Tables of recordings: CSV, JSON lines and Parquet, with common names of columns."""

from __future__ import annotations

import csv
import itertools
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sigma_ser.core.errors import CorpusError
from sigma_ser.core.records import Column, ColumnBuilder
from sigma_ser.core.utterance import Utterance

from .finding import safe_id, unique_ids
from .labels import canonical_label
from .reader import Entry, Listing

COLUMNS: dict[str, tuple[str, ...]] = {
    "id": ("utterance", "utterance_id", "name", "segment_id"),
    "path": (
        "file",
        "filename",
        "file_name",
        "filepath",
        "file_path",
        "wav",
        "audio",
        "audio_path",
    ),
    "label": ("emotion", "class", "category", "target"),
    "speaker": ("speaker_id", "spk", "spk_id", "actor"),
    "session": ("session_id", "ses"),
    "text_id": ("text", "sentence", "sentence_id", "statement", "transcript", "word"),
}
"""Fields of an utterance, with other names that their columns may have."""

_REST = ("speaker", "session", "text_id")
# These are read from the recordings themselves, not from the table.
_MEASURED = frozenset({"sample_rate", "num_samples"})


def read_rows(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the rows of a `.csv`, `.tsv`, `.jsonl`, `.json` or `.parquet` file.

    Raises:
        CorpusError: if the file is absent, of another kind, or damaged.
    """
    if not path.is_file():
        raise CorpusError(f"the manifest {path} does not exist; give a CSV, JSONL or Parquet file")
    readers = {
        ".csv": _csv, ".tsv": _csv, ".jsonl": _json_lines, ".json": _json_lines,
        ".parquet": _parquet,
    }  # fmt: skip
    reader = readers.get(path.suffix.lower())
    if reader is None:
        raise CorpusError(
            f"the manifest {path} has the suffix {path.suffix!r}; "
            f"supported are {', '.join(readers)}"
        )
    try:
        yield from reader(path)
    except (ValueError, csv.Error, OSError, TypeError) as error:
        line = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise CorpusError(f"the manifest {path} cannot be read ({line}); correct it") from error


def _csv(path: Path) -> Iterator[dict[str, Any]]:
    # utf-8-sig, because spreadsheets put a byte-order mark before the first column's name.
    with path.open(newline="", encoding="utf-8-sig") as file:
        head = file.read(4096)
        file.seek(0)
        if path.suffix.lower() == ".tsv":
            delimiter = "\t"
        else:
            first = head.splitlines()[0] if head else ""
            delimiter = max(",;\t", key=first.count)
        yield from csv.DictReader(file, delimiter=delimiter, strict=True)


def _json_lines(path: Path) -> Iterator[dict[str, Any]]:
    with path.open(encoding="utf-8-sig") as file:
        first = next((line for line in file if line.strip()), "")
        file.seek(0)
        if first.lstrip().startswith("["):
            rows = iter(json.load(file))
        else:
            rows = (json.loads(line) for line in file if line.strip())
        for row in rows:
            if not isinstance(row, dict):
                raise ValueError("each line must be a JSON object")
            yield row


def _parquet(path: Path) -> Iterator[dict[str, Any]]:
    import pyarrow.parquet as pq

    with pq.ParquetFile(path) as file:
        for batch in file.iter_batches(4096):
            yield from batch.to_pylist()


@dataclass(frozen=True)
class Naming:
    """The column of a table for each field of an utterance."""

    fields: Mapping[str, str]

    @classmethod
    def found_in(cls, names: Iterable[str], given: Mapping[str, str], where: Path) -> Naming:
        """The columns by the given names, otherwise by the usual ones in any case.

        Raises:
            CorpusError: if there is no column for the path or the label, or a name is unknown.
        """
        names = list(names)
        folded = {name.strip().casefold(): name for name in reversed(names)}
        fields = {}
        for key, name in given.items():
            if key not in COLUMNS or name not in names:
                raise CorpusError(
                    f"columns={{{key!r}: {name!r}}} does not fit {where.name}: fields are "
                    f"{', '.join(COLUMNS)}, columns are {', '.join(names)}"
                )
            fields[key] = name
        for key, others in COLUMNS.items():
            usual = [folded[name] for name in (key, *others) if name in folded]
            if key not in fields and usual:
                fields[key] = usual[0]
        for key in ("path", "label"):
            if key not in fields:
                raise CorpusError(
                    f"{where.name} has no column for the {key} (columns: {', '.join(names)}); "
                    f"name it with columns={{{key!r}: ...}}"
                )
        return cls(fields)


def listing_of_rows(
    rows: Iterable[Mapping[str, Any]], folder: Path, given: Mapping[str, str], where: Path
) -> Listing:
    """The recordings of a table, with paths relative to `folder`.

    Rows without a path or a label are left out, with a note.
    """
    listing = Listing()
    table = _columns(rows)
    if not table:
        return listing
    naming = Naming.found_in(table, given, where).fields
    cells = zip(table[naming["path"]], table[naming["label"]], strict=True)
    complete = [row for row, (path, label) in enumerate(cells) if path and label]
    incomplete = len(table[naming["path"]]) - len(complete)
    if incomplete:
        listing.notes.append(
            f"{incomplete} rows of {where.name} have no path or no label and were left out"
        )
    table = {name: column.take(complete) for name, column in table.items()}
    further = [name for name in table if name not in {*naming.values(), *_MEASURED}]
    ids = _ids({key: table[name] for key, name in naming.items()}, folder)
    for utterance_id, row in zip(ids, _rows(table), strict=True):
        written = row[naming["label"]]
        columns = {name: row[name] for name in further}
        if canonical_label(written) != written:
            columns["label_as_written"] = written
        speaker, session, text = (row[naming[key]] if key in naming else "" for key in _REST)
        path = Path(_absolute(folder, row[naming["path"]]))
        utterance = Utterance(utterance_id, path, canonical_label(written), speaker, session, text)
        listing.entries.append(Entry(utterance, columns))
    return listing


def _columns(rows: Iterable[Mapping[str, Any]]) -> dict[str, Column[str]]:
    """The rows as columns of texts; empty if there are no rows."""
    table: dict[str, ColumnBuilder[str]] = {}
    for count, row in enumerate(rows):
        # Rows of JSON need not have the same keys; cells beyond the last column have no name.
        for name in row:
            if isinstance(name, str) and name not in table:
                table[name] = ColumnBuilder(str, itertools.repeat("", count))
        for name, builder in table.items():
            builder.append(_text(row.get(name)))
    return {name: builder.column() for name, builder in table.items()}


def _rows(table: Mapping[str, Column[str]]) -> Iterator[dict[str, str]]:
    """Yield the rows of a table."""
    for cells in zip(*table.values(), strict=True):
        yield dict(zip(table, cells, strict=True))


def _ids(fields: Mapping[str, Column[str]], folder: Path) -> Iterable[str]:
    """The id of each row: its own id, otherwise one that is made from its path."""
    given = fields.get("id", ())
    if given and all(given):
        return map(safe_id, given)
    # Two rows with the same path are one recording, so that paths are normalised for the ids. They
    # are opened as they are in the table, because `..` after a symbolic link leads elsewhere.
    plain = [os.path.normpath(_absolute(folder, path)) for path in fields["path"]]
    distinct = list(dict.fromkeys(plain))
    made = dict(zip(distinct, unique_ids(_below(folder, distinct)), strict=True))
    return [
        safe_id(name) if name else made[path]
        for name, path in zip(given or itertools.repeat(""), plain, strict=False)
    ]


def _absolute(folder: Path, path: str) -> str:
    # For tables made on Windows; a name that contains a backslash is tried first.
    plain = os.path.join(folder, path)
    if "\\" in path and not os.path.lexists(plain):
        plain = os.path.join(folder, path.replace("\\", "/"))
    return plain


def _below(folder: Path, paths: list[str]) -> list[str]:
    """The paths relative to `folder`, or to their common folder, with slashes."""
    base = os.path.join(folder, "")
    if not all(path.startswith(base) for path in paths):
        base = os.path.join(os.path.commonpath([os.path.dirname(path) for path in paths]), "")
    return [Path(path[len(base) :]).as_posix() for path in paths]


def _text(value: Any) -> str:
    return "" if value is None else str(value).strip()
