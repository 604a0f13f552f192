"""Protocols that belong to one corpus: those of the literature, by their usual names."""

from __future__ import annotations

from sigma_ser.core.errors import CorpusError
from sigma_ser.core.registry import register

from .corpus import Corpus
from .folds import Fold
from .protocols import random_stratified, text_kfold
from .splitting import groups_of, shuffled

DEMO_TEST_VOICES = ("f4", "m4")
"""Voices that the pretraining data of the demo encoder do not contain."""

DEMO_VALIDATION_VOICES = ("f3",)


@register("protocol", "demo-voices")
def demo_voices(corpus: Corpus, *, seed: int = 0) -> list[Fold]:
    """Train on five voices, validate on a sixth, test on two that are in no training data."""
    del seed
    voices = groups_of(corpus, lambda one: one.speaker, "speaker")
    absent = {*DEMO_TEST_VOICES, *DEMO_VALIDATION_VOICES} - set(voices)
    if absent:
        raise CorpusError(
            f"demo-voices needs the voices {', '.join(sorted(absent))}, which {corpus.name} does "
            "not have; for other corpora use speaker-kfold"
        )
    held = (*DEMO_TEST_VOICES, *DEMO_VALIDATION_VOICES)
    return [
        Fold(
            "demo-voices",
            train=[name for voice, names in voices.items() if voice not in held for name in names],
            validation=[name for voice in DEMO_VALIDATION_VOICES for name in voices[voice]],
            test=[name for voice in DEMO_TEST_VOICES for name in voices[voice]],
        )
    ]


@register("protocol", "tess-loso2")
def tess_loso2(corpus: Corpus, *, seed: int = 0) -> list[Fold]:
    """Train on one speaker, test on the other: the two speaker-independent folds of TESS.

    There is no third speaker, so a fifth of the words of the training speaker is the validation
    part. It shares no word with the training part and has no recording of the test speaker.
    """
    speakers = groups_of(corpus, lambda one: one.speaker, "speaker")
    if len(speakers) != 2:
        raise CorpusError(
            f"tess-loso2 needs two speakers and {corpus.name} has {len(speakers)}; "
            "use leave-one-speaker-out"
        )
    words = groups_of(corpus, lambda one: one.text_id, "text")
    held_words = set(shuffled(words, seed, "validation words")[: max(1, len(words) // 5)])
    held = {name for word in held_words for name in words[word]}
    folds = []
    for tested in sorted(speakers):
        (trained,) = (name for name in speakers if name != tested)
        folds.append(
            Fold(
                f"test-{tested}",
                train=[name for name in speakers[trained] if name not in held],
                validation=[name for name in speakers[trained] if name in held],
                test=speakers[tested],
            )
        )
    return folds


@register("protocol", "tess-word")
def tess_word(corpus: Corpus, *, seed: int = 0, folds: int = 5) -> list[Fold]:
    """Word-disjoint folds; both speakers are in every part, so accuracy is near its ceiling."""
    return text_kfold(corpus, seed=seed, folds=folds)


@register("protocol", "tess-random")
def tess_random(corpus: Corpus, *, seed: int = 0, folds: int = 5) -> list[Fold]:
    """The split of most papers: stratified at random, with all speakers and words in every part."""
    return random_stratified(corpus, seed=seed, folds=folds)


@register("protocol", "iemocap4-loso5")
def iemocap_loso5(corpus: Corpus, *, seed: int = 0) -> list[Fold]:
    """Test one session, validate on the next one, train on the other three: five folds."""
    del seed
    sessions = _five_sessions(corpus, "iemocap4-loso5")
    names = sorted(sessions)
    folds = []
    for place, tested in enumerate(names):
        validated = names[(place + 1) % len(names)]
        train = [one for name in names if name not in (tested, validated) for one in sessions[name]]
        folds.append(Fold(f"test-{tested}", train, sessions[validated], sessions[tested]))
    return folds


@register("protocol", "iemocap4-lospo10")
def iemocap_lospo10(corpus: Corpus, *, seed: int = 0) -> list[Fold]:
    """Test one speaker, validate on the other of the session, train on four sessions: ten folds."""
    del seed
    sessions = _five_sessions(corpus, "iemocap4-lospo10")
    speakers = groups_of(corpus, lambda one: one.speaker, "speaker")
    of_session = {name: sorted({corpus[one].speaker for one in ids})
                  for name, ids in sessions.items()}  # fmt: skip
    folds = []
    for session, pair in sorted(of_session.items()):
        if len(pair) != 2:
            raise CorpusError(
                f"iemocap4-lospo10 needs two speakers in each session, and {session} of "
                f"{corpus.name} has {len(pair)}; use iemocap4-loso5"
            )
        train = [one for name, ids in sessions.items() if name != session for one in ids]
        for tested, validated in (pair, pair[::-1]):
            folds.append(Fold(f"test-{tested}", train, speakers[validated], speakers[tested]))
    return folds


@register("protocol", "superb")
def superb(corpus: Corpus, *, seed: int = 0) -> list[Fold]:
    """SUPERB's split (Yang et al. 2021): test one session, validate on a random fifth of the rest.

    Training and validation share speakers; neither shares one with the test. As in SUPERB the
    fifth is not stratified by class; the seed is another one.
    """
    sessions = _five_sessions(corpus, "superb")
    folds = []
    for tested in sorted(sessions):
        rest = shuffled(
            (one for name, ids in sessions.items() if name != tested for one in ids),
            seed,
            f"superb {tested}",
        )
        held = round(len(rest) * 0.2)
        folds.append(Fold(f"test-{tested}", rest[held:], rest[:held], sessions[tested]))
    return folds


def _five_sessions(corpus: Corpus, protocol: str) -> dict[str, list[str]]:
    sessions = groups_of(corpus, lambda one: one.session, "session")
    if len(sessions) != 5:
        raise CorpusError(
            f"{protocol} needs the five sessions of IEMOCAP, and {corpus.name} has "
            f"{len(sessions)}; use speaker-kfold"
        )
    return sessions
