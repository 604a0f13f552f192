"""The utterances of a study: which are attacked, in which parts, and what the others are for."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from sigma_ser.core.errors import ConfigError
from sigma_ser.core.records import Records
from sigma_ser.core.utterance import Utterance
from sigma_ser.corpora.samples import by_length, stratified

from .config import StudyConfig
from .sections import WAVEFORM, Surface
from .steps import Part

if TYPE_CHECKING:
    from sigma_ser.corpora.corpus import Corpus
    from sigma_ser.corpora.folds import Fold

# Utterances of one file of results: small enough to lose little, large enough to be few.
PART_UTTERANCES = 256
# Number of utterances behind a universal map: more of them change it little.
UNIVERSAL_UTTERANCES = 128
# Number of utterances on which alarms are fitted, and as many for the mean maps of the classes.
ALARM_UTTERANCES = 96


def attacked_parts(
    study: StudyConfig, corpus: Corpus, fold: Fold, surface: Surface
) -> tuple[Records[Utterance], ...]:
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


def alarm_parts(
    study: StudyConfig, corpus: Corpus, fold: Fold, attacked: Iterable[Records[Utterance]]
) -> tuple[Part, Part]:
    """Utterances for the mean map of each class, and others on which alarms are fitted.

    The former are of the training part. The latter are of the part that `[alarm]` names: of the
    validation part, or of the training part without one; or those of the test part that are not
    attacked.

    Raises:
        ConfigError: if the fold has too few utterances that are not attacked.
    """
    assert study.alarm is not None
    count, seed = ALARM_UTTERANCES, study.evaluation.seed
    ids = fold.validation
    if study.alarm.part == "test":
        excluded = {name for part in attacked for name in part.column("id")}
        ids = tuple(name for name in fold.test if name not in excluded)
    training = stratified(corpus, fold.train, 2 * count, seed)
    apart = bool(ids) or study.alarm.part == "test"
    half = min(count, len(training) if apart else len(training) // 2)
    fitting = stratified(corpus, ids, count, seed)
    if not apart:
        fitting = training[half : half + count]
    if not half:
        raise ConfigError(
            f"[alarm] is fitted on utterances that are not attacked, and fold {fold.name} has none "
            "outside of its test part; remove [alarm], or use a protocol with a training part"
        )
    if not fitting:
        raise ConfigError(
            f"[alarm] is to be fitted on the test part, and all of its utterances in fold "
            f"{fold.name} are attacked; attack fewer with evaluation.utterances, or remove "
            "alarm.part"
        )
    return by_length(corpus, training[:half]), by_length(corpus, fitting)
