"""A corpus: its usable recordings, excluded files with reasons, and its source."""

from __future__ import annotations

import dataclasses
import difflib
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from sigma_ser.audio.recording import MAX_SECONDS, AudioFacts
from sigma_ser.core import registry
from sigma_ser.core.errors import CorpusError
from sigma_ser.core.files import content_key_of_many
from sigma_ser.core.keyed import Keyed
from sigma_ser.core.records import ColumnBuilder, Records
from sigma_ser.core.utterance import Utterance

from .checking import Progress, check_files
from .copies import divide
from .labels import canonical_label
from .reader import Card, Entries, Listing, Quarantined, Reader, Verdict, differences_from
from .segments import Places


@dataclass(frozen=True, eq=False)
class Corpus:
    """Recordings with their labels; made by `load_corpus`.

    Args:
        name: of the corpus.
        utterances: unique ids, in their order; stored as columns.
        class_names: names of the classes, sorted; a class index is a position in this tuple.
        card: source, licence, citation.
        root: folder or manifest of the corpus; `None` for a data set of the hub.
        quarantine: files that cannot be used, with the reason.
        differences: one line for each difference from the published counts.
        notes: one line for each kind of file that was left out or found twice.
        facts: the properties of each recording, by id.
        columns: further columns of a manifest or file name, `columns[name][id]`.
    """

    name: str
    utterances: Sequence[Utterance]
    class_names: tuple[str, ...]
    card: Card
    root: Path | None = None
    quarantine: tuple[Quarantined, ...] = ()
    differences: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    facts: Mapping[str, AudioFacts] = field(default_factory=dict, repr=False)
    columns: Mapping[str, Mapping[str, str]] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        if not isinstance(self.utterances, Records):
            object.__setattr__(self, "utterances", Records.of(Utterance, self.utterances))

    def __len__(self) -> int:
        return len(self.utterances)

    def __iter__(self) -> Iterator[Utterance]:
        return iter(self.utterances)

    def __contains__(self, name: object) -> bool:
        return name in self._by_id

    def __getitem__(self, name: str) -> Utterance:
        """The utterance with this id.

        Raises:
            CorpusError: if there is none; the message lists near matches.
        """
        return self.utterances[self.row(name)]

    def row(self, name: str) -> int:
        """The place of an utterance in `utterances`.

        Raises:
            CorpusError: if there is none; the message lists near matches.
        """
        try:
            return self._by_id.row(name)
        except KeyError:
            near = difflib.get_close_matches(str(name), self._by_id, n=3)
            hint = f"did you mean {' or '.join(near)}?" if near else "see corpus.utterances"
            raise CorpusError(f"{self.name} has no utterance {name!r}; {hint}") from None

    @cached_property
    def key(self) -> str:
        """A hash of the content of the corpus, 16 hexadecimal digits.

        It depends on id, label, speaker, session, text and decoded samples of every utterance, and
        not on the location or lossless format of the files, nor on where a segment begins.
        """
        assert isinstance(self.utterances, Records)
        fields = ("id", "label", "speaker", "session", "text_id")
        rows = zip(*map(self.utterances.column, fields), strict=True)
        return content_key_of_many([*row, self._content(row[0])] for row in rows)

    @cached_property
    def _by_id(self) -> Keyed[Utterance]:
        assert isinstance(self.utterances, Records)
        return Keyed(self.utterances.column("id"), self.utterances)

    def _content(self, name: str) -> str:
        facts = self.facts.get(name)
        return facts.content if facts else ""


def load_corpus(
    name: str | Reader,
    root: str | os.PathLike[str] | None = None,
    *,
    classes: Sequence[str] | None = None,
    strict: bool = False,
    workers: int | None = None,
    max_seconds: float = MAX_SECONDS,
    remember: bool = True,
    again: bool = False,
    progress: Progress | None = None,
    **options: Any,
) -> Corpus:
    """Find the recordings of a corpus, check each, and return those that can be used.

    The first call decodes every recording; later ones only those whose size or modification time
    has changed.

    Args:
        name: a registered corpus (`ss.registry.names("corpus")`), or your own reader.
        root: folder of the corpus, or file of a manifest; the embedded corpus needs none.
        classes: classes to keep; `None` keeps all.
        strict: whether a file that cannot be used is an error.
        workers: number of threads that read; `None` is one for each core, at most 8.
        max_seconds: limit of the duration; longer recordings go to quarantine.
        remember: whether to store the results of the checks in `~/.cache/sigma-ser`.
        again: whether to check recordings whose results are stored.
        progress: called with the number of finished files and the number of all files.
        options: options of the reader, such as `columns=` of a manifest.

    Raises:
        UnknownNameError: no corpus has this name.
        CorpusError: no usable recording was found, or a file is bad and `strict` is set.
        ConfigError: the reader has no such option.

    >>> import sigma_ser as ss
    >>> corpus = ss.load_corpus("demo")
    >>> len(corpus), corpus.class_names[:3]
    (672, ('angry', 'disgust', 'fear'))
    """
    reader = _reader(name, options) if isinstance(name, str) else name
    title = name if isinstance(name, str) else type(name).__name__.lower()
    if root is None and reader.default_root is None:
        raise CorpusError(
            f"the corpus {title} is not part of the package; give the folder of your copy with "
            "--root (root= in Python, corpus.root in a study)"
            + (f"; it is available at {reader.card.source}" if reader.card.source else "")
        )
    place = Path(os.path.abspath(root if root is not None else reader.default_root or ""))
    listing = reader.list(place)
    listing.entries = Entries.of(listing.entries)  # a reader may return a list
    if not listing.entries:
        raise CorpusError(_nothing_found(title, place, listing))
    verdicts = check_files(
        Places(listing.entries.utterances),
        max_seconds=max_seconds,
        workers=workers,
        cache_root=place if remember else None,
        known=listing.known,
        again=again,
        progress=progress,
    )
    corpus = _assemble(listing.name or title, place, reader, listing, verdicts)
    if strict and corpus.quarantine:
        first, count = corpus.quarantine[0], len(corpus.quarantine)
        raise CorpusError(
            f"{count} of the files of {corpus.name} cannot be used, the first because: "
            f"{first.message}; repair them or leave out strict"
        )
    if not corpus.utterances:
        raise CorpusError(
            f"none of the {len(corpus.quarantine)} recordings in {place} can be used, the first "
            f"because: {corpus.quarantine[0].message}"
        )
    return corpus if classes is None else _of_classes(corpus, classes)


def _reader(name: str, options: Mapping[str, Any]) -> Reader:
    reader: Reader = registry.make("corpus", name, options)
    return reader


def _nothing_found(title: str, place: Path, listing: Listing) -> str:
    if place.is_file() and not listing.quarantine:
        return f"{place} lists no recording; write one row for each, below the names of the columns"
    others = [bad.path.name for bad in listing.quarantine if bad.reason == "unknown-name"]
    seen = "no file in it has an audio suffix"
    if listing.quarantine and not others:
        seen = listing.quarantine[0].message
    elif others:
        seen = f"it contains {len(others)} recordings with other names, such as {others[0]!r}"
    return (
        f"no recording of {title} was found in {place} ({seen}); give the folder with the "
        "recordings"
    )


def _assemble(
    name: str, place: Path, reader: Reader, listing: Listing, verdicts: Iterable[Verdict]
) -> Corpus:
    """Divide the recordings into used, copies and quarantine, and compare the counts."""
    division = divide(listing, verdicts)
    facts, rows = division.facts, division.rows
    utterances = listing.entries.utterances.take(rows).replaced(
        sample_rate=facts.column("sample_rate"), num_samples=facts.column("num_samples")
    )
    ids = utterances.column("id")
    differences = list(listing.differences)
    if reader.official is not None:
        differences += differences_from(reader.official, utterances)
    differences += _named_missing(listing.missing)
    notes = [*listing.notes, *_merged_spellings(listing), *division.notes]
    return Corpus(
        name=name,
        utterances=utterances,
        class_names=tuple(sorted(set(utterances.column("label")))),
        card=listing.card or reader.card,
        root=place if place.exists() else None,
        quarantine=tuple(sorted(division.quarantine, key=lambda bad: str(bad.path))),
        differences=tuple(differences),
        notes=tuple(notes),
        facts=Keyed(ids, facts),
        columns={
            column: Keyed(ids, taken)
            for column, texts in sorted(listing.entries.columns.items())
            for taken in [texts.take(rows)]
            # Without columns that only unusable recordings have.
            if any(taken) or not any(texts)
        },
    )


def _named_missing(missing: Sequence[str], shown: int = 20) -> list[str]:
    if not missing:
        return []
    more = f" and {len(missing) - shown} more" if len(missing) > shown else ""
    return [f"missing: {', '.join(missing[:shown])}{more}"]


def _merged_spellings(listing: Listing) -> list[str]:
    """One line for each class that has several spellings."""
    labels = listing.entries.utterances.column("label")
    as_written = listing.entries.columns.get("label_as_written", labels)
    spellings: dict[str, set[str]] = {}
    for label, written in zip(labels, as_written, strict=True):
        spellings.setdefault(label, set()).add(written or label)
    return [
        f"{' and '.join(map(repr, sorted(raw)))} were read as one class, {label!r}"
        for label, raw in sorted(spellings.items())
        if len(raw) > 1
    ]


def _of_classes(corpus: Corpus, classes: Sequence[str]) -> Corpus:
    wanted = [canonical_label(label) for label in classes]
    for given, label in zip(classes, wanted, strict=True):
        if label not in corpus.class_names:
            raise CorpusError(
                f"{corpus.name} has no class {given!r}; it has {', '.join(corpus.class_names)}"
            )
    kept = Records.of(Utterance, (one for one in corpus.utterances if one.label in wanted))
    left_out = Counter(one.label for one in corpus.utterances if one.label not in wanted)
    notes = [f"{count} utterances of class {label} were left out on request"
             for label, count in sorted(left_out.items())]  # fmt: skip
    ids = kept.column("id")
    return dataclasses.replace(
        corpus,
        utterances=kept,
        class_names=tuple(sorted(set(wanted))),
        notes=(*corpus.notes, *notes),
        facts=Keyed(ids, Records.of(AudioFacts, (corpus.facts[key] for key in ids))),
        columns={
            column: Keyed(ids, ColumnBuilder(str, (values[key] for key in ids)).column())
            for column, values in corpus.columns.items()
        },
    )
