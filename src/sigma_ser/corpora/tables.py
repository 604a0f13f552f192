"""Tables of recordings: CSV, JSON lines and Parquet, whatever their columns are called."""

from __future__ import annotations

import csv
import json
import os
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sigma_ser.core.errors import CorpusError
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
"""Fields of an utterance, and the other names under which a table may have them."""

# What is read from the recordings themselves, whatever the table says.
_MEASURED = frozenset({"sample_rate", "num_samples"})


def read_rows(path: Path) -> list[dict[str, Any]]:
    """The rows of a `.csv`, `.tsv`, `.jsonl`, `.json` or `.parquet` file.

    Raises:
        CorpusError: if the file is absent, of another kind, or damaged.
    """
    if not path.is_file():
        raise CorpusError(f"the manifest {path} is not there; give a CSV, JSONL or Parquet file")
    readers = {
        ".csv": _csv, ".tsv": _csv, ".jsonl": _json_lines, ".json": _json_lines,
        ".parquet": _parquet,
    }  # fmt: skip
    reader = readers.get(path.suffix.lower())
    if reader is None:
        raise CorpusError(
            f"the manifest {path} has the suffix {path.suffix!r}; known are {', '.join(readers)}"
        )
    try:
        return reader(path)
    except (ValueError, csv.Error, OSError, TypeError) as error:
        line = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise CorpusError(f"the manifest {path} cannot be read ({line}); mend it") from error


def _csv(path: Path) -> list[dict[str, Any]]:
    # utf-8-sig, because spreadsheets put a byte-order mark before the first column's name.
    with path.open(newline="", encoding="utf-8-sig") as file:
        head = file.read(4096)
        file.seek(0)
        if path.suffix.lower() == ".tsv":
            delimiter = "\t"
        else:
            first = head.splitlines()[0] if head else ""
            delimiter = max(",;\t", key=first.count)
        return [dict(row) for row in csv.DictReader(file, delimiter=delimiter, strict=True)]


def _json_lines(path: Path) -> list[dict[str, Any]]:
    text = path.read_text("utf-8-sig")
    if text.lstrip().startswith("["):
        rows = json.loads(text)
    else:
        rows = [json.loads(line) for line in text.splitlines() if line.strip()]
    if not all(isinstance(row, dict) for row in rows):
        raise ValueError("each line must be a JSON object")
    return list(rows)


def _parquet(path: Path) -> list[dict[str, Any]]:
    import pyarrow.parquet as pq

    rows: list[dict[str, Any]] = pq.read_table(path).to_pylist()
    return rows


@dataclass(frozen=True)
class Naming:
    """Which column of a table holds which field of an utterance."""

    fields: Mapping[str, str]

    @classmethod
    def found_in(cls, names: Iterable[str], given: Mapping[str, str], where: Path) -> Naming:
        """By the names that were given, else by the usual ones, whatever their case.

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
                    f"say which one with columns={{{key!r}: ...}}"
                )
        return cls(fields)


def listing_of_rows(
    rows: list[dict[str, Any]], folder: Path, given: Mapping[str, str], where: Path
) -> Listing:
    """The recordings of a table; relative paths begin at `folder`.

    Rows without a path or a label are left out, with a note.
    """
    listing = Listing()
    if not rows:
        return listing
    # Rows of JSON need not have the same keys.
    names = list(dict.fromkeys(name for row in rows for name in row if isinstance(name, str)))
    naming = Naming.found_in(names, given, where).fields
    complete = [row for row in rows if _text(row, naming["path"]) and _text(row, naming["label"])]
    if len(complete) < len(rows):
        listing.notes.append(
            f"{len(rows) - len(complete)} rows of {where.name} have no path or no label "
            "and were left out"
        )
    paths = [_absolute(folder, _text(row, naming["path"])) for row in complete]
    # The same path twice is one recording twice, not two that are alike. Opened is what the table
    # says, though: behind a symbolic link `..` leads elsewhere.
    plain = [os.path.normpath(path) for path in paths]
    distinct = list(dict.fromkeys(plain))
    ids = dict(zip(distinct, unique_ids(_below(folder, distinct)), strict=True))
    extra = [name for name in names if name not in naming.values() and name not in _MEASURED]
    for row, path, short in zip(complete, paths, plain, strict=True):
        given_id = _text(row, naming.get("id"))
        written = _text(row, naming["label"])
        columns = {key: _text(row, key) for key in extra}
        if canonical_label(written) != written:
            columns["label_as_written"] = written
        utterance = Utterance(
            id=safe_id(given_id) if given_id else ids[short],
            path=Path(path),
            label=sys.intern(canonical_label(written)),
            speaker=sys.intern(_text(row, naming.get("speaker"))),
            session=sys.intern(_text(row, naming.get("session"))),
            text_id=sys.intern(_text(row, naming.get("text_id"))),
        )
        listing.entries.append(Entry(utterance, columns))
    return listing


def _absolute(folder: Path, path: str) -> str:
    # Tables made on Windows; a name that really holds a backslash is tried as it is first.
    plain = os.path.join(folder, path)
    if "\\" in path and not os.path.lexists(plain):
        plain = os.path.join(folder, path.replace("\\", "/"))
    return plain


def _below(folder: Path, paths: list[str]) -> list[str]:
    """The paths below `folder`, or below the folder that they have in common, with slashes."""
    base = os.path.join(folder, "")
    if not all(path.startswith(base) for path in paths):
        base = os.path.join(os.path.commonpath([os.path.dirname(path) for path in paths]), "")
    return [Path(path[len(base) :]).as_posix() for path in paths]


def _text(row: Mapping[str, Any], name: str | None) -> str:
    value = row.get(name) if name is not None else None
    return "" if value is None else str(value).strip()
