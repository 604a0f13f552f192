"""Classification performance of a victim: UAR with intervals, per class and per speaker."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from sigma_ser.core.contracts import Victim
from sigma_ser.core.errors import VictimError
from sigma_ser.encoders.store import FeatureStore
from sigma_ser.statistics.bootstrap import mean_interval
from sigma_ser.statistics.classification import (
    accuracy,
    classification_scores,
    confusion_matrix,
    uar,
)


@torch.inference_mode()
def predict_logits(
    victim: Victim | nn.Module, store: FeatureStore, ids: Sequence[str], batch_size: int = 64
) -> Float[Tensor, "N C"]:
    """Compute the logits of utterances of a store, in batches of similar length.

    Args:
        victim: the classifier, on any device.
        store: features as the victim receives them.
        ids: `N` utterances.
        batch_size: maximum number of utterances in one call of the victim.

    Returns:
        `(N, C)` on the CPU, in the order of `ids`.
    """
    weights = victim.parameters() if isinstance(victim, nn.Module) else [victim.scale]
    place = next((one.device for one in weights), torch.device("cpu"))
    order = store.lengths(ids).argsort(stable=True, descending=True)
    logits = torch.empty(0)
    # The longest utterances come first, since all others fit into the memory they free. Results
    # go into one tensor: small tensors between the large ones would fragment that memory.
    for rows in torch.split(order, batch_size):
        batch = store.batch([ids[row] for row in rows.tolist()]).to(place)
        part = victim(batch.x, batch.lengths).cpu()
        if not len(logits):
            logits = part.new_empty(len(ids), part.shape[1])
        logits[rows] = part
    return logits


def evaluate(
    victim: Victim,
    store: FeatureStore,
    ids: Sequence[str],
    *,
    speakers: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """Score a victim on utterances of a store.

    Args:
        victim: a classifier with the classes of the store, in any order.
        store: features with labels, as the victim receives them.
        ids: utterances to score, at least one.
        speakers: the speaker of each utterance by its id, for scores of each speaker.

    Returns:
        Plain data, rates as fractions: the scores of `statistics.classification_scores`;
        `accuracy_low` and `accuracy_high` (95 % bootstrap); `calibration_error`; `classes`, for
        each class `utterances`, `precision`, `recall`, `f1` (`None` where they are undefined);
        with `speakers`, for each speaker `utterances`, `uar` and `accuracy`.

    Raises:
        VictimError: if there is nothing to score, the classes are not those of the store, or
            logits are not finite.
    """
    if not ids:
        raise VictimError("there is no utterance to score; choose another part or fold")

    logits = predict_logits(victim, store, ids)
    finite = torch.isfinite(logits).all(1)
    if not bool(finite.all()):
        raise VictimError(
            f"the victim returned NaN or infinite logits for {int((~finite).sum())} of {len(ids)} "
            f"utterances, {ids[int(finite.int().argmin())]!r} first; check its weights, and that "
            "the features are those that it was trained on"
        )
    logits = logits[:, _order_of_classes(victim, store.class_names, logits.shape[1])]
    labels = store.labels(ids)
    predictions = logits.argmax(1)
    hits = predictions == labels
    low, high = mean_interval(hits.numpy().astype(float))
    scores = {
        **classification_scores(labels.numpy(), predictions.numpy(), store.class_names),
        "accuracy_low": low,
        "accuracy_high": high,
        "calibration_error": calibration_error(logits, hits),
    }
    scores["classes"] = _of_classes(np.array(scores["confusion"]), store.class_names)
    if speakers is not None:
        scores["speakers"] = _of_speakers([speakers[name] for name in ids], labels, predictions)
    return scores


def calibration_error(
    logits: Float[Tensor, "N C"], hits: Bool[Tensor, "N"], bins: int = 10
) -> float:
    """Expected calibration error over equal-width bins of confidence (Guo et al. 2017, eq. 3).

    Args:
        logits: `(N, C)`.
        hits: `(N,)`, whether each prediction is correct.
        bins: number of bins.

    Returns:
        In [0, 1].
    """
    confidence = logits.double().softmax(1).amax(1)
    bin_of = (confidence * bins).long().clamp(max=bins - 1)
    gap = torch.zeros(bins, dtype=torch.double)
    gap.index_add_(0, bin_of, hits.double() - confidence)
    return float(gap.abs().sum() / len(hits))


def _order_of_classes(victim: Victim, class_names: Sequence[str], classes: int) -> Int[Tensor, "C"]:
    """Index of the logit of each class of the store; unnamed logits are in the same order."""
    named = tuple(victim.class_names)
    if sorted(named or class_names) != sorted(class_names) or classes != len(class_names):
        raise VictimError(
            f"the classes of the victim are {', '.join(named) or f'({classes} without names)'}, "
            f"those of the store {', '.join(class_names)}; give the victim's classes by the "
            "store's names with class_names=, in the order of its logits"
        )
    return torch.tensor([(named or tuple(class_names)).index(name) for name in class_names])


def _of_classes(
    confusion: Int[np.ndarray, "C C"], class_names: Sequence[str]
) -> dict[str, dict[str, Any]]:
    predicted, true, hits = confusion.sum(0), confusion.sum(1), confusion.diagonal()
    return {
        name: {
            "utterances": int(true[row]),
            "precision": _share(hits[row], predicted[row]),
            "recall": _share(hits[row], true[row]),
            "f1": _share(2 * hits[row], predicted[row] + true[row]),
        }
        for row, name in enumerate(class_names)
    }


def _of_speakers(
    speakers: Sequence[str], labels: Int[Tensor, "N"], predictions: Int[Tensor, "N"]
) -> dict[str, dict[str, Any]]:
    classes = int(torch.maximum(labels, predictions).max()) + 1
    scores = {}
    for speaker in sorted(set(speakers)):
        own = torch.tensor([name == speaker for name in speakers])
        confusion = confusion_matrix(labels[own].numpy(), predictions[own].numpy(), classes)
        scores[speaker] = {
            "utterances": int(own.sum()),
            "uar": uar(confusion),
            "accuracy": accuracy(confusion),
        }
    return scores


def _share(part: Any, whole: Any) -> float | None:
    return float(part / whole) if whole else None
