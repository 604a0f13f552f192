"""Splits of utterances by whole groups and stratified by class."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping

from sigma_ser.core.errors import CorpusError
from sigma_ser.core.files import content_key
from sigma_ser.core.utterance import Utterance

from .corpus import Corpus
from .folds import Fold

Group = Callable[[Utterance], str]


def shuffled(names: Iterable[str], seed: int, purpose: str) -> list[str]:
    """The names in an order that depends on the seed only, not on their given order."""
    return sorted(set(names), key=lambda name: (content_key([seed, purpose, name]), name))


def groups_of(corpus: Corpus, group: Group, what: str) -> dict[str, list[str]]:
    """The ids of each group.

    Raises:
        CorpusError: if an utterance has no group.
    """
    groups: dict[str, list[str]] = {}
    for utterance in corpus.utterances:
        groups.setdefault(group(utterance), []).append(utterance.id)
    if "" in groups:
        raise CorpusError(
            f"{len(groups[''])} utterances of {corpus.name} have no {what}, "
            f"such as {groups[''][0]!r}; add it (a column of the table), or choose a protocol that "
            "does not need it, such as random-stratified"
        )
    return groups


def deal_groups(groups: Mapping[str, list[str]], folds: int, seed: int) -> list[list[str]]:
    """Whole groups in `folds` parts of similar size: the largest first, each to the smallest."""
    order = {name: place for place, name in enumerate(shuffled(groups, seed, "groups"))}
    parts: list[list[str]] = [[] for _ in range(folds)]
    for name in sorted(groups, key=lambda name: (-len(groups[name]), order[name])):
        min(parts, key=len).extend(groups[name])
    return parts


def deal_stratified(
    utterances: Iterable[Utterance], folds: int, seed: int, purpose: str = "strata"
) -> list[list[str]]:
    """Utterances in `folds` parts whose counts of each class differ by at most one."""
    by_label: dict[str, list[str]] = {}
    for utterance in utterances:
        by_label.setdefault(utterance.label, []).append(utterance.id)
    parts: list[list[str]] = [[] for _ in range(folds)]
    place = 0
    for label in sorted(by_label):
        for name in shuffled(by_label[label], seed, purpose):
            parts[place % folds].append(name)
            place += 1
    return parts


def rotate(prefix: str, parts: list[list[str]]) -> list[Fold]:
    """Folds in which each part is the test part once, and the next part validates."""
    folds = []
    for number, test in enumerate(parts):
        after = (number + 1) % len(parts)
        train = [
            name
            for other, part in enumerate(parts)
            if other not in (number, after)
            for name in part
        ]
        folds.append(Fold(f"{prefix}-{number + 1}", train, parts[after], test))
    return folds


def fold_count(wanted: int, available: Mapping[str, object], what: str, name: str) -> int:
    """The number of folds.

    Raises:
        CorpusError: if fewer than three are wanted, or there are too few groups.
    """
    other = (
        "leave-one-speaker-out, which needs two speakers"
        if what == "speaker"
        else ("random-stratified")
    )
    if wanted < 3:
        raise CorpusError(
            f"folds={wanted}: at least 3 are needed for separate train, validation and test "
            f"parts; raise folds= or use {other}"
        )
    if len(available) < wanted:
        remedy = f"give folds={len(available)}" if len(available) >= 3 else f"use {other}"
        raise CorpusError(
            f"{name} has {len(available)} different {what}s, too few for {wanted} folds; {remedy}"
        )
    return wanted


def smallest_class(corpus: Corpus) -> tuple[str, int]:
    """The rarest class and its count."""
    label, count = min(
        Counter(one.label for one in corpus.utterances).items(), key=lambda item: (item[1], item[0])
    )
    return label, count
