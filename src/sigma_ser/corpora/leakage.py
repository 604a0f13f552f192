"""The leakage report: overlap between the parts of a fold, and their class balance."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from sigma_ser.core.records import Records

from .corpus import Corpus
from .folds import PARTS, Fold

# Content of a recording that occurs under one id only.
_UNIQUE = "unique"
# The counted fields of `Shared`.
_SHARED = ("speakers", "sessions", "texts", "identical_audio", "recordings")


@dataclass(frozen=True)
class Shared:
    """Overlap of two parts of a fold; `None` where the corpus lacks the information.

    `speakers`, `sessions`, `texts`, `identical_audio` (the same decoded samples) and `recordings`
    (files of which both parts have segments) count distinct values that occur in both parts.
    """

    fold: str
    first: str
    second: str
    speakers: int | None
    sessions: int | None
    texts: int | None
    identical_audio: int | None
    recordings: int | None


@dataclass(frozen=True)
class Balance:
    """Numbers of utterances, speakers and utterances of each class in a part of a fold."""

    fold: str
    part: str
    utterances: int
    speakers: int
    classes: dict[str, int]


@dataclass(frozen=True)
class LeakageReport:
    """Overlap of parts (`shared`), class balance (`balance`) and identical recordings.

    `duplicates` holds groups of ids whose recordings have the same samples. Iterating yields one
    flat dictionary for each fold and pair of parts, for use in a table.
    """

    shared: tuple[Shared, ...]
    balance: tuple[Balance, ...]
    duplicates: tuple[tuple[str, ...], ...]

    def __iter__(self) -> Iterator[dict[str, Any]]:
        for pair in self.shared:
            yield {
                "fold": pair.fold,
                "parts": f"{pair.first} and {pair.second}",
                **{
                    name: "unknown" if getattr(pair, name) is None else getattr(pair, name)
                    for name in _SHARED
                },
            }

    def to_json(self) -> str:
        """One JSON object; unknown values are `null`."""
        return json.dumps(self.to_dict())

    def to_dict(self) -> dict[str, Any]:
        """The same as plain data."""
        return {
            "shared": [vars(pair) for pair in self.shared],
            "balance": [vars(part) for part in self.balance],
            "duplicates": [list(group) for group in self.duplicates],
        }


def leakage_report(corpus: Corpus, folds: Sequence[Fold]) -> LeakageReport:
    """Compare the parts of each fold by speaker, session, text, audio content and file.

    Args:
        corpus: the corpus of the folds.
        folds: any folds of the corpus.

    Raises:
        CorpusError: if a fold names an utterance that the corpus does not have.

    >>> import sigma_ser as ss
    >>> corpus = ss.load_corpus("demo")
    >>> report = leakage_report(corpus, ss.make_folds(corpus, "demo-voices"))
    >>> [(pair.first, pair.second, pair.speakers, pair.texts) for pair in report.shared]
    [('train', 'validation', 0, 12), ('train', 'test', 0, 12), ('validation', 'test', 0, 12)]
    """
    shared, balance = [], []
    duplicates = duplicate_groups(corpus)
    # Only audio with several ids can be in two parts.
    sounds = {name: group[0] for group in duplicates for name in group}
    files = _common_files(corpus)
    for fold in folds:
        values: dict[str, tuple[set[str], ...]] = {}
        for part in PARTS:
            ids, labels = getattr(fold, part), Counter[str]()
            values[part] = tuple(set() for _ in _SHARED)
            for name in ids:
                one, known = corpus[name], name in corpus.facts
                labels[one.label] += 1
                sound = sounds.get(name, _UNIQUE) if known else ""
                file = files.get(name, _UNIQUE)
                answers = (one.speaker, one.session, one.text_id, sound, file)
                for different, answer in zip(values[part], answers, strict=True):
                    different.add(answer)
            for different in values[part][3:]:
                different.discard(_UNIQUE)
            balance.append(
                Balance(
                    fold.name,
                    part,
                    utterances=len(ids),
                    speakers=len(values[part][0] - {""}),
                    classes={label: labels[label] for label in corpus.class_names},
                )
            )
        for first, second in combinations(PARTS, 2):
            counts = map(_in_both, values[first], values[second])
            shared.append(Shared(fold.name, first, second, *counts))
    return LeakageReport(tuple(shared), tuple(balance), duplicates)


def duplicate_groups(corpus: Corpus) -> tuple[tuple[str, ...], ...]:
    """Groups of ids with the same decoded samples at the same rate."""
    groups = _repeated(lambda: ((name, facts.content) for name, facts in corpus.facts.items()))
    return tuple(tuple(sorted(group)) for group in sorted(groups.values()))


def _common_files(corpus: Corpus) -> dict[str, str]:
    """The file of each utterance that shares its file with other utterances."""
    assert isinstance(corpus.utterances, Records)
    ids, paths = (corpus.utterances.column(name) for name in ("id", "path"))
    groups = _repeated(lambda: zip(ids, map(os.fspath, paths), strict=True))
    # A feature store does not have the paths of its utterances.
    groups.pop(os.fspath(Path()), None)
    return {name: path for path, group in groups.items() for name in group}


def _repeated(pairs: Callable[[], Iterable[tuple[str, str]]]) -> dict[str, list[str]]:
    """The names of each text that several names have."""
    # By hash first, because most texts are unique and need no list.
    hashes = np.fromiter((hash(text) for _, text in pairs()), np.int64)
    several, counts = np.unique(hashes, return_counts=True)
    suspects = set(several[counts > 1].tolist())
    groups: dict[str, list[str]] = {}
    if suspects:
        for name, text in pairs():
            if hash(text) in suspects:
                groups.setdefault(text, []).append(name)
    return {text: group for text, group in groups.items() if len(group) > 1}


def _in_both(first: set[str], second: set[str]) -> int | None:
    """Number of common values; `None` where an utterance has no value."""
    return None if "" in first or "" in second else len(first & second)
