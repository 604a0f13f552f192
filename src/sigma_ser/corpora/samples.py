"""Choose and order utterances of a corpus."""

from __future__ import annotations

import itertools
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
    ordered = sorted(ids, key=lambda name: (corpus[name].seconds, name))
    return Records.of(Utterance, (corpus[name] for name in ordered))


def evenly(utterances: Sequence[Utterance], count: int) -> Records[Utterance]:
    """At most `count` utterances at equal distances, such as all lengths of a sorted list."""
    count = min(len(utterances), count)
    chosen = (utterances[place * len(utterances) // count] for place in range(count))
    return Records.of(Utterance, chosen)
