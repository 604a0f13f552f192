"""Protocols for any corpus: by speaker, by text, at random, or by a column."""

from __future__ import annotations

from sigma_ser.core.errors import CorpusError
from sigma_ser.core.registry import register

from .corpus import Corpus
from .folds import PARTS, Fold
from .splitting import (
    deal_groups,
    deal_stratified,
    fold_count,
    groups_of,
    rotate,
    smallest_class,
)

_SPELLINGS = {
    "train": "train", "training": "train",
    "validation": "validation", "valid": "validation", "val": "validation", "dev": "validation",
    "development": "validation",
    "test": "test", "testing": "test", "eval": "test", "evaluation": "test",
}  # fmt: skip


@register("protocol", "speaker-kfold")
def speaker_kfold(corpus: Corpus, *, seed: int = 0, folds: int = 5) -> list[Fold]:
    """Speaker-disjoint folds: each speaker is in one test part; other speakers validate."""
    groups = groups_of(corpus, lambda one: one.speaker, "speaker")
    count = fold_count(folds, groups, "speaker", corpus.name)
    return rotate("speakers", deal_groups(groups, count, seed))


@register("protocol", "leave-one-speaker-out")
def leave_one_speaker_out(corpus: Corpus, *, seed: int = 0, share: float = 0.2) -> list[Fold]:
    """Each speaker is tested once and in no training data; two speakers are enough.

    The validation part is a stratified share of the recordings of the training speakers, so it
    contains no recording of the tested speaker.

    Args:
        corpus: recordings of at least two speakers.
        seed: of the draw of the validation part.
        share: of the recordings that validate, in (0, 0.5].

    Raises:
        CorpusError: if there are fewer than two speakers, or `share` is out of its range.
    """
    speakers = groups_of(corpus, lambda one: one.speaker, "speaker")
    if len(speakers) < 2:
        raise CorpusError(
            f"leave-one-speaker-out needs two speakers or more, and {corpus.name} has "
            f"{len(speakers)}; use text-kfold or random-stratified"
        )
    if not 0 < share <= 0.5:
        raise CorpusError(f"share={share}: the validation share must be above 0 and at most 0.5")
    folds = []
    for tested in sorted(speakers):
        rest = [one for one in corpus.utterances if one.speaker != tested]
        held = set(deal_stratified(rest, max(2, round(1 / share)), seed, f"validation {tested}")[0])
        train = [one.id for one in rest if one.id not in held]
        folds.append(Fold(f"test-{tested}", train, sorted(held), speakers[tested]))
    return folds


@register("protocol", "text-kfold")
def text_kfold(corpus: Corpus, *, seed: int = 0, folds: int = 5) -> list[Fold]:
    """Text-disjoint folds: no text of the test part is in the training part; speakers are."""
    groups = groups_of(corpus, lambda one: one.text_id, "text")
    count = fold_count(folds, groups, "text", corpus.name)
    return rotate("texts", deal_groups(groups, count, seed))


@register("protocol", "random-stratified")
def random_stratified(corpus: Corpus, *, seed: int = 0, folds: int = 5) -> list[Fold]:
    """Stratified random folds, whose parts share speakers and texts.

    Raises:
        CorpusError: if the rarest class has fewer utterances than there are folds.
    """
    label, rarest = smallest_class(corpus)
    if rarest < folds:
        raise CorpusError(
            f"class {label} of {corpus.name} has {rarest} utterances, too few for {folds} folds; "
            "lower folds= or leave the class out with classes="
        )
    count = fold_count(folds, {one.id: one for one in corpus.utterances}, "utterance", corpus.name)
    return rotate("random", deal_stratified(corpus.utterances, count, seed))


@register("protocol", "predefined")
def predefined(corpus: Corpus, *, seed: int = 0, column: str = "split") -> list[Fold]:
    """The split in a column of the manifest: train, validation and test, or fold numbers.

    With numbers each is the test part once, and the next one validates. Rows with an empty cell
    are in no part.

    Raises:
        CorpusError: if there is no such column, or it has other values.
    """
    del seed
    if column not in corpus.columns:
        listed = ", ".join(corpus.columns) or "none"
        raise CorpusError(
            f"{corpus.name} has no column {column!r} (there are: {listed}); "
            "name it with column=, or choose another protocol"
        )
    parts: dict[str, list[str]] = {}
    for name, value in corpus.columns[column].items():
        if value:
            parts.setdefault(value.strip().lower(), []).append(name)
    if parts and all(value.isdigit() for value in parts):
        numbers = sorted(parts, key=int)
        fold_count(max(3, len(numbers)), parts, "fold number", corpus.name)
        return rotate("predefined", [parts[number] for number in numbers])
    unknown = sorted(set(parts) - set(_SPELLINGS))
    if unknown:
        raise CorpusError(
            f"column {column!r} of {corpus.name} has the value {unknown[0]!r}; "
            f"possible are {', '.join(_SPELLINGS)}, or whole numbers"
        )
    named: dict[str, list[str]] = {part: [] for part in PARTS}
    for value, names in parts.items():
        named[_SPELLINGS[value]] += names
    return [Fold("predefined", named["train"], named["validation"], named["test"])]
