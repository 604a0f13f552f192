"""How good a victim is: UAR first, with intervals, per class and per speaker."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from sigma_ser.core.contracts import Victim
from sigma_ser.encoders.store import FeatureStore
from sigma_ser.statistics.classification import classification_scores


@torch.inference_mode()
def predict_logits(
    victim: Victim | nn.Module, store: FeatureStore, ids: Sequence[str], batch_size: int = 64
) -> Float[Tensor, "N C"]:
    """Logits of utterances, in the order given; batches hold utterances of like length."""
    lengths = store.lengths(ids).tolist()
    order = sorted(range(len(ids)), key=lambda row: lengths[row])
    parts = []
    for start in range(0, len(order), batch_size):
        batch = store.batch([ids[row] for row in order[start : start + batch_size]])
        parts.append(victim(batch.x, batch.lengths))
    logits = torch.cat(parts)
    return logits[torch.tensor(order).argsort()].clone()


def evaluate(victim: Victim, store: FeatureStore, ids: Sequence[str]) -> dict[str, Any]:
    """Score a victim on utterances of a store.

    Args:
        victim: recogniser whose classes are those of the store.
        store: features with labels.
        ids: utterances to score, at least one.

    Returns:
        The scores of `statistics.classification_scores` and `calibration_error`, plain data.
    """
    logits = predict_logits(victim, store, ids)
    labels = store.labels(ids)
    predictions = logits.argmax(1)
    return {
        **classification_scores(labels.numpy(), predictions.numpy(), store.class_names),
        "calibration_error": calibration_error(logits, predictions == labels),
    }


def calibration_error(
    logits: Float[Tensor, "N C"], hits: Bool[Tensor, "N"], bins: int = 10
) -> float:
    """Expected calibration error over equal-width bins of confidence (Guo et al. 2017, eq. 3)."""
    confidence = logits.double().softmax(1).amax(1)
    bin_of = (confidence * bins).long().clamp(max=bins - 1)
    gap = torch.zeros(bins, dtype=torch.double)
    gap.index_add_(0, bin_of, hits.double() - confidence)
    return float(gap.abs().sum() / len(hits))
