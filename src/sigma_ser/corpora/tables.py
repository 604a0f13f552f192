"""The recordings of a table, with common names of columns."""

from __future__ import annotations

import itertools
import math
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sigma_ser.core.errors import CorpusError
from sigma_ser.core.records import Column, ColumnBuilder
from sigma_ser.core.utterance import Utterance

from .labels import canonical_label
from .reader import Entry, Listing, quarantined
from .segments import seconds_of, segment_name
from .table_ids import ids_of, unfit_for_ids

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
    "start": ("begin",),
    "end": (),
}
"""Fields of an utterance, with other names that their columns may have."""

_REST = ("speaker", "session", "text_id")
# How pandas reads or writes a missing value; a text may consist of such a word.
_MISSING = frozenset(
    {
        "nan",
        "NaN",
        "-nan",
        "-NaN",
        "NaT",
        "None",
        "NULL",
        "null",
        "NA",
        "N/A",
        "n/a",
        "#N/A",
        "<NA>",
    }
)
_MARKED = ("id", "path", "label", "speaker", "session", "start", "end")
# These are read from the recordings themselves, not from the table.
_MEASURED = frozenset({"sample_rate", "num_samples"})


@dataclass(frozen=True)
class Naming:
    """The column of a table for each field of an utterance."""

    fields: Mapping[str, str]

    @classmethod
    def found_in(cls, names: Iterable[str], given: Mapping[str, str], where: Path) -> Naming:
        """The columns by the given names, otherwise by the usual ones in any case.

        An empty name in `given` stands for a field that the table does not have.

        Raises:
            CorpusError: if there is no column for the path or the label, or a name is unknown.
        """
        names = list(names)
        spellings = Counter(name.strip().casefold() for name in names)
        folded = {name.strip().casefold(): name for name in reversed(names)}
        fields = {}
        for key, name in given.items():
            if key not in COLUMNS or (name and name not in names):
                raise CorpusError(
                    f"columns={{{key!r}: {name!r}}} does not fit {where.name}: fields are "
                    f"{', '.join(COLUMNS)}, columns are {', '.join(names)}"
                )
            fields[key] = name
        for key, others in COLUMNS.items():
            usual = [folded[name] for name in (key, *others) if name in folded]
            if key not in fields and usual:
                if spellings[usual[0].strip().casefold()] > 1:
                    raise CorpusError(
                        f"{where.name} has several columns for the {key} (columns: "
                        f"{', '.join(names)}); name one with columns={{{key!r}: ...}}"
                    )
                fields[key] = usual[0]
        for key in ("path", "label"):
            if not fields.get(key):
                raise CorpusError(
                    f"{where.name} has no column for the {key} (columns: {', '.join(names)}); "
                    f"name it with columns={{{key!r}: ...}}"
                )
        return cls({key: name for key, name in fields.items() if name})


def listing_of_rows(
    rows: Iterable[Mapping[str, Any]], folder: Path, given: Mapping[str, str], where: Path
) -> Listing:
    """The recordings of a table, with paths relative to `folder`.

    Rows without a path or a label are left out, with a note; those with a path go to quarantine.

    Raises:
        CorpusError: if there is no column for the path or the label, a name in `given` is unknown,
            or the start or the end of a segment is no number of seconds.
    """
    listing = Listing()
    table = _columns(rows)
    if not table:
        return listing
    naming = dict(Naming.found_in(table, given, where).fields)
    table = {**table, **_without_markers(table, naming, where, listing)}
    paths, labels = table[naming["path"]], table[naming["label"]]
    complete = []
    for row, (path, label) in enumerate(zip(paths, labels, strict=True)):
        if path and label:
            complete.append(row)
        elif path:
            message = f"{path} has no label in row {row + 1} of {where.name}; add it"
            listing.quarantine.append(
                quarantined(Path(_absolute(folder, path)), "no-label", message)
            )
    if len(complete) < len(paths):
        listing.notes.append(
            f"{len(paths) - len(complete)} rows of {where.name} have no path or no label and were "
            "left out"
        )
    segments = _segments(table, naming, complete, where)
    table = {name: column.take(complete) for name, column in table.items()}
    # Two rows with the same path are one recording, so that paths are normalised for the ids. They
    # are opened as they are in the table, because `..` after a symbolic link leads elsewhere.
    plain = [os.path.normpath(_absolute(folder, path)) for path in table[naming["path"]]]
    parts = list(itertools.starmap(segment_name, segments))
    if "id" not in given and "id" in naming:
        _check_guessed_ids(table, naming, plain, parts, listing)
    own = table[naming["id"]] if "id" in naming else ()
    ids = ids_of(own, plain, parts, folder)
    further = [name for name in table if name not in {*naming.values(), *_MEASURED}]
    for utterance_id, cells, (start, end) in zip(ids, _rows(table), segments, strict=True):
        written = cells[naming["label"]]
        columns = {name: cells[name] for name in further}
        if canonical_label(written) != written:
            columns["label_as_written"] = written
        speaker, session, text = (cells[naming[key]] if key in naming else "" for key in _REST)
        utterance = Utterance(
            id=utterance_id,
            path=Path(_absolute(folder, cells[naming["path"]])),
            label=canonical_label(written),
            speaker=speaker,
            session=session,
            text_id=text,
            start=start,
            end=end,
        )
        listing.entries.append(Entry(utterance, columns))
    return listing


def _without_markers(
    table: Mapping[str, Column[str]], naming: Mapping[str, str], where: Path, listing: Listing
) -> dict[str, Column[str]]:
    """The columns of some fields, with markers of missing values as empty cells."""
    cleaned = {}
    for field in _MARKED:
        name = naming.get(field, "")
        if not name:
            continue
        column = table[name]
        markers = Counter(cell for cell in column if cell in _MISSING)
        if not markers:
            continue
        cleaned[name] = ColumnBuilder(
            str, ("" if cell in markers else cell for cell in column)
        ).column()
        if field not in {"start", "end"}:
            shown = ", ".join(map(repr, sorted(markers)))
            listing.notes.append(
                f"{sum(markers.values())} rows of {where.name} have {shown} as {field}, which was "
                "read as missing"
            )
    return cleaned


def _segments(
    table: Mapping[str, Column[str]], naming: Mapping[str, str], rows: Sequence[int], where: Path
) -> Sequence[tuple[float | None, float | None]]:
    """The start and the end of each of these rows."""
    columns = [table[naming[key]] if key in naming else None for key in ("start", "end")]
    if columns == [None, None]:
        return [(None, None)] * len(rows)
    segments = []
    for row in rows:
        try:
            start, end = (None if column is None else seconds_of(column[row]) for column in columns)
        except ValueError:
            names = [naming[key] for key in ("start", "end") if key in naming]
            raise CorpusError(
                f"row {row + 1} of {where.name}: {' and '.join(names)} must be seconds or durations"
                "; correct them, or ignore the columns with columns={'start': '', 'end': ''}"
            ) from None
        segments.append((None, None) if not start and end is None else (start, end))
    return segments


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


def _check_guessed_ids(
    table: Mapping[str, Column[str]],
    naming: dict[str, str],
    paths: Sequence[str],
    parts: Sequence[str],
    listing: Listing,
) -> None:
    """Remove the column for the id from `naming` if it does not hold ids, with a note."""
    column = naming["id"]
    why = "" if column.strip().casefold() == "id" else unfit_for_ids(table[column], paths, parts)
    if why:
        listing.notes.append(f"column {column!r} was not used for ids, because {why}")
        del naming["id"]
        naming.setdefault("text_id", column)


def _absolute(folder: Path, path: str) -> str:
    # For tables made on Windows; a name that contains a backslash is tried first.
    plain = os.path.join(folder, path)
    if "\\" in path and not os.path.lexists(plain):
        plain = os.path.join(folder, path.replace("\\", "/"))
    return plain


def _text(value: Any) -> str:
    # NaN and NaT differ from themselves.
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    return str(value).strip()
