"""Linear probes: the emotion information in each hidden state of an encoder."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from sigma_ser.core.errors import StoreError
from sigma_ser.corpora.folds import Fold
from sigma_ser.encoders.store import FeatureStore
from sigma_ser.statistics.classification import confusion_matrix, uar, uar_interval


@dataclass(frozen=True, kw_only=True)
class LayerProbe:
    """Score of a linear probe on one layer.

    `layer` is the value for `load_encoder(layer=...)`; `uar`, in [0, 1], with its 95 % bootstrap
    interval, is computed on the test parts of all folds together.
    """

    layer: int | str
    uar: float
    uar_low: float
    uar_high: float
    test_utterances: int


def probe_layers(
    store: FeatureStore,
    folds: Sequence[Fold],
    *,
    progress: Callable[[int, int], None] | None = None,
) -> list[LayerProbe]:
    """Train a ridge classifier on mean-pooled features of each layer, and measure its UAR.

    A probe measures the linearly separable information of a layer, as a guide to the choice of the
    layer; it is not a victim. Channels are standardised on the training part, where the penalty is
    selected among 13 values by leave-one-out cross-validation.

    Args:
        store: features of one layer, or of all (`layer="all"`).
        folds: training and test parts; utterances without features are left out.
        progress: called with the number of layers done and their total number.

    Returns:
        One probe for each layer, from the first to the last.

    Raises:
        StoreError: if a part of a fold has no features, or a training part only one class.
    """
    names = [name for fold in folds for name in (*fold.train, *fold.validation, *fold.test)]
    known = [name for name in dict.fromkeys(names) if name in store]
    row_of = {name: row for row, name in enumerate(known)}
    means = _time_means(store, known)
    labels = store.labels(known).numpy()
    layers = range(store.layers) if store.layers > 1 else [store.card["encoder"]["layer"]]
    found = []
    for layer, features in zip(layers, np.split(means, store.layers, axis=1), strict=True):
        truth, predictions = [], []
        for fold in folds:
            train, test = _rows(fold.train, row_of), _rows(fold.test, row_of)
            if len(test) == 0 or len(np.unique(labels[train])) < 2:
                raise StoreError(
                    f"fold {fold.name} has {len(train)} training utterances of "
                    f"{len(np.unique(labels[train]))} classes and {len(test)} test utterances in "
                    "this store, too few for a probe; choose another protocol, or extract the "
                    "whole corpus"
                )
            truth.append(labels[test])
            predictions.append(_ridge(features[train], labels[train], features[test]))
        predicted, true = np.concatenate(predictions), np.concatenate(truth)
        low, high = uar_interval(true, predicted)
        score = uar(confusion_matrix(true, predicted, len(store.class_names)))
        found.append(
            LayerProbe(
                layer=layer, uar=score, uar_low=low, uar_high=high, test_utterances=len(true)
            )
        )
        if progress is not None:
            progress(len(found), store.layers)
    return found


def _time_means(store: FeatureStore, ids: Sequence[str]) -> Float[np.ndarray, "N LD"]:
    # One utterance at a time: all layers of a whole corpus would not fit into memory.
    return np.stack([store.features(name).mean(0).numpy() for name in ids])


def _rows(ids: Iterable[str], row_of: dict[str, int]) -> Int[np.ndarray, "n"]:
    return np.array([row_of[name] for name in ids if name in row_of], dtype=np.int64)


def _ridge(
    x: Float[np.ndarray, "n D"], labels: Int[np.ndarray, "n"], unseen: Float[np.ndarray, "m D"]
) -> Int[np.ndarray, "m"]:
    from sklearn.linear_model import RidgeClassifierCV
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    model = make_pipeline(StandardScaler(), RidgeClassifierCV(np.logspace(-1, 5, 13)))
    predictions: Int[np.ndarray, "m"] = model.fit(x, labels).predict(unseen)
    return predictions
