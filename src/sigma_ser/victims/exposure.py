"""Which recordings a victim was trained on, and what that means for scores on others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from sigma_ser.core.files import content_key
from sigma_ser.corpora.folds import Fold
from sigma_ser.encoders.store import FeatureStore

from .checkpoint import FOLD, TrainedVictim

# Utterances whose features are read at once.
_BATCH = 64
# Enough to distinguish recordings, and few enough that rounding rarely separates equal ones.
_PROJECTIONS = 6


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

    Features of one recording may differ in their last bits between two extractions, because
    sums in batches of different size are rounded differently. So the digest is that of a few
    random projections of the mean over time, rounded to three decimals; the few utterances whose
    projection lies at the edge between two of these may still get different digests.

    Args:
        store: features; compare digests of one encoder only.
        ids: utterances.
    """
    digests: list[str] = []
    for start in range(0, len(ids), _BATCH):
        batch = store.batch(list(ids[start : start + _BATCH]))
        rng = torch.Generator().manual_seed(0)
        directions = torch.randn(batch.x.shape[2], _PROJECTIONS, generator=rng).double()
        for row, frames in enumerate(batch.lengths.tolist()):
            mean = batch.x[row, :frames].double().mean(0)
            projected = (mean / mean.norm().clamp(min=1e-30)) @ directions
            digests.append(content_key([frames, *(round(x, 3) + 0.0 for x in projected.tolist())]))
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
