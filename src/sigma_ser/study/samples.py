"""The utterances of a study: which are attacked, in which parts, and which give universal maps."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sigma_ser.core.errors import ConfigError
from sigma_ser.corpora.samples import by_length, stratified

from .config import WAVEFORM, StudyConfig, Surface
from .steps import Part

if TYPE_CHECKING:
    from sigma_ser.corpora.corpus import Corpus
    from sigma_ser.corpora.folds import Fold

# Utterances of one file of results: small enough to lose little, large enough to be few.
PART_UTTERANCES = 256
# Number of utterances behind a universal map: more of them change it little.
UNIVERSAL_UTTERANCES = 128


def attacked_parts(
    study: StudyConfig, corpus: Corpus, fold: Fold, surface: Surface
) -> tuple[Part, ...]:
    """The attacked test utterances, of similar length in each part, in an order fixed by content.

    The order follows the recordings and not their frames, so it is the same for every encoder.
    Those of the waveform are among those of the features.

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
        ids = stratified(corpus, fold.test, evaluation.utterances, evaluation.seed)
    if surface == WAVEFORM and evaluation.waveform_utterances is not None:
        ids = stratified(corpus, ids, evaluation.waveform_utterances, evaluation.seed)
    chosen = by_length(corpus, ids)
    return tuple(
        chosen[start : start + PART_UTTERANCES] for start in range(0, len(chosen), PART_UTTERANCES)
    )


def unattacked_part(study: StudyConfig, corpus: Corpus, fold: Fold) -> Part:
    """Utterances for a universal map: of the validation part, or the training part without one."""
    ids = fold.validation or fold.train
    kept = stratified(corpus, ids, UNIVERSAL_UTTERANCES, study.evaluation.seed)
    return by_length(corpus, kept)
