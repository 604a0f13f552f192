"""Folds: the training, validation and test utterances of a victim."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from sigma_ser.core import registry
from sigma_ser.core.errors import CorpusError
from sigma_ser.core.files import content_key, parsed_json

from .corpus import Corpus

PARTS = ("train", "validation", "test")


@dataclass(frozen=True)
class Fold:
    """Three disjoint sets of utterance ids, each kept in sorted order.

    Args:
        name: unique among the folds of one protocol.
        train: ids for training, and for mean and scale of the features.
        validation: ids for model selection; may be empty.
        test: ids that are evaluated and attacked.

    Raises:
        CorpusError: if an id is in two parts, or the test part is empty, or only the training part.

    >>> fold = Fold("one", train=["b", "a"], validation=[], test=["c"])
    >>> fold.train, Fold.from_json(fold.to_json()) == fold
    (('a', 'b'), True)
    """

    name: str
    train: tuple[str, ...]
    validation: tuple[str, ...]
    test: tuple[str, ...]

    def __init__(
        self, name: str, train: Iterable[str], validation: Iterable[str], test: Iterable[str]
    ) -> None:
        object.__setattr__(self, "name", name)
        for part, ids in zip(PARTS, (train, validation, test), strict=True):
            object.__setattr__(self, part, tuple(sorted(ids)))
        together = self.train + self.validation + self.test
        if len(set(together)) < len(together):
            twice = next(one for one in sorted(together) if together.count(one) > 1)
            raise CorpusError(f"fold {name} has {twice!r} more than once; parts must be disjoint")
        # A fold without training and validation part is for victims that are not trained here.
        for part in ("train", "test") if self.train or self.validation else ("test",):
            if not getattr(self, part):
                raise CorpusError(f"fold {name} has no utterance in its {part} part")

    @cached_property
    def key(self) -> str:
        """16 hex digits from the name and the ids."""
        return content_key([self.name, self.train, self.validation, self.test])

    def to_json(self) -> str:
        """One JSON object with `name`, `train`, `validation`, `test`."""
        return json.dumps({"name": self.name, **{part: getattr(self, part) for part in PARTS}})

    @classmethod
    def from_json(cls, text: str) -> Fold:
        """The fold that `to_json` wrote.

        Raises:
            CorpusError: if the text is something else.
        """
        try:
            value = parsed_json(text)
            return cls(value["name"], *(value[part] for part in PARTS))
        except (ValueError, KeyError, TypeError) as error:
            raise CorpusError(
                f"this is not a fold: it needs the keys name, {', '.join(PARTS)} ({error})"
            ) from error


def make_folds(corpus: Corpus, protocol: str, seed: int = 0, **options: Any) -> list[Fold]:
    """Split a corpus by a registered protocol.

    The folds depend on the ids, labels, speakers, sessions and texts of the corpus and on the
    seed, never on the order of its utterances.

    Args:
        corpus: what to split.
        protocol: a name of `ss.registry.names("protocol")`.
        seed: random seed of the protocol.
        options: of the protocol, such as `folds=` of `speaker-kfold`.

    Raises:
        UnknownNameError: no protocol has this name.
        CorpusError: the corpus lacks what the protocol needs.
        ConfigError: the protocol has no such option.

    >>> import sigma_ser as ss
    >>> fold, = ss.make_folds(ss.load_corpus("demo"), "demo-voices")
    >>> len(fold.train), len(fold.validation), len(fold.test)
    (420, 84, 168)
    """
    folds: list[Fold] = registry.make("protocol", protocol, options, corpus, seed=seed)
    return folds
