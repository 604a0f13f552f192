"""The interface of corpus readers: classes that are registered under the name of a corpus.

A reader lists the recordings with their labels and metadata. Opening the recordings, quarantine,
duplicates and counts are common to all corpora and happen in `corpus.load_corpus`.
"""

from __future__ import annotations

import itertools
import re
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, Protocol, overload, runtime_checkable

from sigma_ser.audio.recording import AudioFacts
from sigma_ser.core.errors import CorpusError
from sigma_ser.core.records import Column, ColumnBuilder, Records, RecordsBuilder
from sigma_ser.core.utterance import Utterance

from .finding import Found, find_files


@dataclass(frozen=True)
class Card:
    """Title, source, licence and citation of a corpus.

    `redistributable` states that the licence permits anyone to pass on the recordings and changed
    copies of them. Otherwise the page of a run does not contain them by itself.
    """

    title: str
    source: str = ""
    licence: str = ""
    citation: str = ""
    redistributable: bool = False


@dataclass(frozen=True)
class Quarantined:
    """A file that cannot be used: path, reason, size (bytes, -1 unknown) and message."""

    path: Path
    reason: str
    size: int
    message: str


@dataclass(frozen=True)
class Official:
    """The published counts of a corpus.

    `by` counts utterances for each value of a field of `Utterance` (`label`, `speaker`,
    `session`); `distinct` is the number of distinct values of a field.
    """

    utterances: int
    by: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    distinct: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Entry:
    """One listed recording: the utterance, and further columns."""

    utterance: Utterance
    columns: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Verdict:
    """The result of a check: facts, or a reason with its message.

    It is valid as long as the file has the same `size` (bytes, -1 unknown) and modification time.
    """

    size: int
    mtime_ns: int
    facts: AudioFacts | None
    reason: str = ""
    message: str = ""


class Entries(Sequence[Entry]):
    """Entries, stored as columns; every entry has all further columns, empty where it had none."""

    def __init__(self, entries: Iterable[Entry] = ()) -> None:
        self._utterances = RecordsBuilder(Utterance)
        self._columns: dict[str, ColumnBuilder[str]] = {}
        self.extend(entries)

    @property
    def utterances(self) -> Records[Utterance]:
        """The utterances of the entries so far."""
        return self._utterances.records()

    @property
    def columns(self) -> dict[str, Column[str]]:
        """The further columns of the entries so far, by name."""
        return {name: builder.column() for name, builder in self._columns.items()}

    @classmethod
    def of(cls, entries: Iterable[Entry]) -> Entries:
        """These entries as columns."""
        return entries if isinstance(entries, cls) else cls(entries)

    def append(self, entry: Entry) -> None:
        """Add one at the end."""
        for name in entry.columns:
            if name not in self._columns:
                self._columns[name] = ColumnBuilder(str, itertools.repeat("", len(self)))
        try:
            self._utterances.append(entry.utterance)
        except (AttributeError, TypeError) as error:
            raise CorpusError(
                f"{entry.utterance!r} has a field whose type is not that of Utterance ({error}); "
                "correct the reader that listed it"
            ) from error
        for name, builder in self._columns.items():
            value = entry.columns.get(name)
            builder.append("" if value is None else str(value))

    def extend(self, entries: Iterable[Entry]) -> None:
        """Add many at the end."""
        for entry in entries:
            self.append(entry)

    def __iadd__(self, entries: Iterable[Entry]) -> Entries:
        self.extend(entries)
        return self

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Sequence):
            return NotImplemented
        return len(self) == len(other) and all(a == b for a, b in zip(self, other, strict=True))

    __hash__ = None  # type: ignore[assignment]

    def __len__(self) -> int:
        return len(self._utterances)

    def __iter__(self) -> Iterator[Entry]:
        columns = self.columns
        rows = zip(*columns.values(), strict=True) if columns else itertools.repeat(())
        for utterance, texts in zip(self.utterances, rows, strict=False):
            yield Entry(utterance, dict(zip(columns, texts, strict=True)))

    @overload
    def __getitem__(self, row: int) -> Entry: ...
    @overload
    def __getitem__(self, row: slice) -> Entries: ...
    def __getitem__(self, row: int | slice) -> Entry | Entries:
        if isinstance(row, slice):
            return Entries(self[at] for at in range(*row.indices(len(self))))
        return Entry(
            self.utterances[row], {name: column[row] for name, column in self.columns.items()}
        )


@dataclass
class Listing:
    """The recordings that a reader found.

    Entries are added with `append` or `extend` and stored as columns. Those with the same id are
    copies of one utterance: a lossless one is used before others, then the first; a copy with
    different audio goes to quarantine.
    `missing` has the ids of expected utterances that were not found. `known` maps keys of places
    (`segments.Place.key`, the absolute path of a whole file) to earlier checks.
    """

    entries: Entries = field(default_factory=Entries)
    quarantine: list[Quarantined] = field(default_factory=list)
    differences: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    known: dict[str, Verdict] = field(default_factory=dict)
    name: str = ""
    card: Card | None = None


@runtime_checkable
class Reader(Protocol):
    """Lists the recordings of one corpus; its fields are options of `load_corpus`."""

    @property
    def card(self) -> Card:
        """Source, licence and citation."""

    @property
    def official(self) -> Official | None:
        """The published counts, if any."""

    @property
    def default_root(self) -> Path | None:
        """The root of a corpus that is part of the package; otherwise `None`."""

    def list(self, root: Path) -> Listing:
        """The recordings below `root`, which is as the user gave it; paths of entries are absolute.

        Raises:
            CorpusError: if `root` cannot hold this corpus at all.
        """


class NamedFiles(ABC):
    """A corpus with all metadata in its file names: a reader has a pattern and `describe`.

    Files with an audio suffix whose names do not fit go to quarantine as `unknown-name`.
    """

    card: ClassVar[Card]
    official: ClassVar[Official | None] = None
    default_root: ClassVar[Path | None] = None
    pattern: ClassVar[re.Pattern[str]]

    @abstractmethod
    def describe(self, match: re.Match[str], path: Path) -> Entry | None:
        """The recording `path` whose stem is `match`; `None` to leave it out."""

    def expected(self, entries: Sequence[Entry]) -> set[str]:
        """Ids of a complete copy of the corpus."""
        del entries
        return set()

    def list(self, root: Path) -> Listing:
        """All recordings below `root`, in any folders."""
        found = find_files(root)
        listing = listing_of(found)
        left_out: Counter[str] = Counter()
        for path in found.files:
            match = self.pattern.fullmatch(path.stem)
            if match is None:
                listing.quarantine.append(unknown_name(path))
                continue
            entry = self.describe(match, path)
            if entry is None:
                left_out[path.suffix] += 1
            else:
                listing.entries.append(entry)
        if left_out:
            listing.notes.append(
                f"{sum(left_out.values())} recordings that do not belong to the speech part of "
                "this corpus were left out"
            )
        present = set(listing.entries.utterances.column("id"))
        listing.missing = sorted(self.expected(listing.entries) - present)
        return listing


def listing_of(found: Found) -> Listing:
    """A listing that has the notes and unreadable folders of a search."""
    listing = Listing(notes=list(found.notes))
    if found.others:
        suffixes = Counter(path.suffix.lower() for path in found.others)
        counts = ", ".join(f"{suffix} {count}" for suffix, count in sorted(suffixes.items()))
        listing.notes.append(
            f"{len(found.others)} files have formats that libsndfile does not read ({counts}) and "
            f"were left out, such as {found.others[0]}"
        )
    for folder, message in found.unreadable:
        listing.quarantine.append(Quarantined(folder, "no-permission", -1, message))
    return listing


def quarantined(path: Path, reason: str, message: str) -> Quarantined:
    """A record for the quarantine, with the size of the file if it can be read."""
    try:
        size = path.stat().st_size
    except OSError:
        size = -1
    return Quarantined(path, reason, size, message)


def unknown_name(path: Path) -> Quarantined:
    """A record for a recording whose name does not match the pattern of the corpus."""
    return quarantined(
        path, "unknown-name", f"{path} does not follow the file naming scheme of this corpus"
    )


def differences_from(official: Official, utterances: Records[Utterance]) -> list[str]:
    """One line for each count that differs from the published one."""
    lines = []
    if len(utterances) != official.utterances:
        lines.append(f"{len(utterances)} utterances instead of the official {official.utterances}")
    for name, counts in official.by.items():
        here = Counter(map(str, utterances.column(name)))
        alike: dict[tuple[int, int], list[str]] = {}
        for value in sorted({*counts, *here}):
            if here[value] != counts.get(value, 0):
                alike.setdefault((here[value], counts.get(value, 0)), []).append(value)
        lines += [
            f"{name} {', '.join(values)}: {found} utterances instead of {published}"
            + (" each" if len(values) > 1 else "")
            for (found, published), values in alike.items()
        ]
    for name, count in official.distinct.items():
        values = len(set(utterances.column(name)))
        if values != count:
            lines.append(f"{values} different {name}s instead of {count}")
    return lines
