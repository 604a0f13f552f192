"""Choose and order utterances of a corpus."""

from __future__ import annotations

import itertools
from bisect import bisect_right
from collections.abc import Sequence

from sigma_ser.core.records import Records
from sigma_ser.core.utterance import Utterance

from .corpus import Corpus


def stratified(corpus: Corpus, ids: Sequence[str], count: int | None, seed: int) -> list[str]:
    """Choose utterances of all classes in equal numbers, as far as possible.

    Args:
        corpus: the corpus.
        ids: utterances to choose from.
        count: how many; `None` chooses all.
        seed: random seed of the choice.
    """
    if count is None or count >= len(ids):
        return list(ids)
    from sigma_ser.core.seeds import derive_seed  # imports torch

    by_class: dict[str, list[str]] = {}
    for name in sorted(ids, key=lambda name: derive_seed("sample", seed, name)):
        by_class.setdefault(corpus[name].label, []).append(name)
    turns = itertools.chain.from_iterable(
        itertools.zip_longest(*(by_class[label] for label in sorted(by_class)))
    )
    return list(itertools.islice((name for name in turns if name is not None), count))


def by_length(corpus: Corpus, ids: Sequence[str]) -> Records[Utterance]:
    """Utterances in the order of their duration, of equal ones in the order of their ids."""
    # By columns, because a million utterances are slow to make.
    assert isinstance(corpus.utterances, Records)
    samples = corpus.utterances.column("num_samples")
    rates = corpus.utterances.column("sample_rate")
    rows = [corpus.row(name) for name in ids]
    seconds = (samples[row] / rates[row] if rates[row] else 0.0 for row in rows)
    ordered = sorted(zip(seconds, ids, rows, strict=True))
    return corpus.utterances.take([row for _, _, row in ordered])


def evenly(parts: Sequence[Sequence[Utterance]], count: int) -> Records[Utterance]:
    """At most `count` utterances at equal distances, such as all lengths of sorted ones.

    Args:
        parts: the utterances, in parts.
        count: how many.
    """
    ends = list(itertools.accumulate(map(len, parts)))
    total = ends[-1] if ends else 0
    few = min(total, count)
    places = (number * total // few for number in range(few))
    found = ((bisect_right(ends, place), place) for place in places)
    return Records.of(Utterance, (parts[part][place - ends[part]] for part, place in found))
