"""Which recordings a victim was trained on, and what that means for scores on others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sigma_ser.core.features import content_ids
from sigma_ser.corpora.folds import Fold
from sigma_ser.encoders.store import FeatureStore

from .checkpoint import FOLD, TrainedVictim

# Utterances whose features are read at once.
_BATCH = 64


@dataclass(frozen=True)
class Exposure:
    """How many of some utterances a victim was trained on.

    Args:
        utterances: number of utterances.
        known: how many of them are in the training or validation part of the victim; `None` where
            its training data are not known.
        reason: why they are not known; empty where they are.
    """

    utterances: int
    known: int | None
    reason: str = ""

    @property
    def text(self) -> str:
        """One sentence; empty if the victim was trained on none of the utterances."""
        if self.known is None:
            return (
                f"{self.reason}, so these utterances may be among those that it was trained on; "
                "scores on such utterances do not hold for new recordings."
            )
        if not self.known:
            return ""
        return (
            f"{self.known} of these {self.utterances} utterances are in the training or validation "
            "part of the victim; scores on them do not hold for new recordings."
        )


def exposure(victim: Any, ids: Sequence[str]) -> Exposure:
    """Count the utterances that a victim was trained on or that selected its weights.

    Args:
        victim: any victim; the training data are known of a `TrainedVictim` with its fold.
        ids: utterances, named as in the corpus of the training.
    """
    fold = _fold(victim)
    if fold is not None:
        return Exposure(len(ids), len({*fold.train, *fold.validation} & set(ids)))
    reason = (
        f"The victim has no {FOLD}, which names the recordings of its training"
        if isinstance(victim, TrainedVictim)
        else "The recordings that the victim was trained on are not known"
    )
    return Exposure(len(ids), None, reason)


def recording_digests(store: FeatureStore, ids: Sequence[str]) -> list[str]:
    """A digest of the features of each utterance, equal for equal recordings of any name.

    Args:
        store: features; compare digests of one encoder only.
        ids: utterances.
    """
    digests: list[str] = []
    for start in range(0, len(ids), _BATCH):
        batch = store.batch(list(ids[start : start + _BATCH]))
        digests += content_ids(batch.x, batch.lengths)
    return digests


def known_recordings(victim: Any, store: FeatureStore, ids: Sequence[str]) -> list[str]:
    """The utterances whose recordings a victim was trained on or that selected its weights.

    Args:
        victim: any victim; recordings are known of a `TrainedVictim` only.
        store: features of the utterances, from the encoder of the victim.
        ids: utterances, under any name.

    Returns:
        Those in the training or validation part of the victim's fold, by id or by content.
    """
    if not isinstance(victim, TrainedVictim):
        return []
    fold, digests = victim.fold, victim.recordings or frozenset()
    named = {*fold.train, *fold.validation} if fold is not None else set()
    same = recording_digests(store, ids) if digests else [""] * len(ids)
    return [
        name
        for name, digest in zip(ids, same, strict=True)
        if digest in digests or (not digests and name in named)
    ]


def unseen(victim: Any, ids: Sequence[str]) -> list[str]:
    """The utterances that a victim was not trained on, as far as that is known.

    Args:
        victim: any victim.
        ids: utterances to choose from.

    Returns:
        Those in the test part of the victim's fold. Without any, those in no part of the fold.
        Without these, or without a fold, all utterances.
    """
    fold = _fold(victim)
    if fold is None:
        return list(ids)
    test, seen = set(fold.test), {*fold.train, *fold.validation}
    return (
        [name for name in ids if name in test]
        or [name for name in ids if name not in seen]
        or list(ids)
    )


def _fold(victim: Any) -> Fold | None:
    return victim.fold if isinstance(victim, TrainedVictim) else None
