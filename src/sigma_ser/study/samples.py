"""Which utterances of a fold are attacked, checked, or make a universal map."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import TYPE_CHECKING

from sigma_ser.core.errors import ConfigError
from sigma_ser.core.records import Records
from sigma_ser.core.seeds import derive_seed
from sigma_ser.core.utterance import Utterance

from .config import StudyConfig
from .steps import Part

if TYPE_CHECKING:
    from sigma_ser.corpora.corpus import Corpus
    from sigma_ser.corpora.folds import Fold

# Utterances of one file of results: small enough to lose little, large enough to be few.
PART_UTTERANCES = 256
# Number of utterances behind a universal map: more of them change it little.
UNIVERSAL_UTTERANCES = 128
# Attacked utterances on which the gradients of a victim are checked.
CHECKED_UTTERANCES = 32


def checked_part(parts: Sequence[Part]) -> Part:
    """Attacked utterances of all lengths on which the gradients of a victim are checked."""
    sample = [one for part in parts for one in part]
    count = min(len(sample), CHECKED_UTTERANCES)
    chosen = (sample[place * len(sample) // count] for place in range(count))
    return Records.of(Utterance, chosen)


def attacked_parts(study: StudyConfig, corpus: Corpus, fold: Fold) -> tuple[Part, ...]:
    """The attacked test utterances, of similar length in each part, in an order fixed by content.

    The order follows the recordings and not their frames, so it is the same for every encoder.

    Raises:
        ConfigError: if `evaluation.ids` names an utterance outside the test part.
    """
    evaluation = study.evaluation
    if evaluation.ids is not None:
        unknown = set(evaluation.ids) - set(fold.test)
        if unknown:
            raise ConfigError(
                f"evaluation.ids: {min(unknown)!r} is not in the test part of fold {fold.name}"
            )
        ids = list(evaluation.ids)
    else:
        ids = _stratified(corpus, fold.test, evaluation.utterances, evaluation.seed)
    chosen = _by_length(corpus, ids)
    return tuple(
        chosen[start : start + PART_UTTERANCES] for start in range(0, len(chosen), PART_UTTERANCES)
    )


def unattacked_part(study: StudyConfig, corpus: Corpus, fold: Fold) -> Part:
    """Utterances for a universal map: of the validation part, or the training part without one."""
    ids = fold.validation or fold.train
    kept = _stratified(corpus, ids, UNIVERSAL_UTTERANCES, study.evaluation.seed)
    return _by_length(corpus, kept)


def _by_length(corpus: Corpus, ids: Sequence[str]) -> Records[Utterance]:
    ordered = sorted(ids, key=lambda name: (corpus[name].seconds, name))
    return Records.of(Utterance, (corpus[name] for name in ordered))


def _stratified(corpus: Corpus, ids: Sequence[str], wanted: int | None, seed: int) -> list[str]:
    if wanted is None or wanted >= len(ids):
        return list(ids)
    by_class: dict[str, list[str]] = {}
    for name in sorted(ids, key=lambda name: derive_seed("sample", seed, name)):
        by_class.setdefault(corpus[name].label, []).append(name)
    turns = itertools.chain.from_iterable(
        itertools.zip_longest(*(by_class[label] for label in sorted(by_class)))
    )
    return list(itertools.islice((name for name in turns if name is not None), wanted))
