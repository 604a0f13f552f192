"""Which layer knows the emotion: a linear probe on the time means of each hidden state."""

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
    """What a linear probe reads from one layer.

    `layer` is the number to give `load_encoder(layer=...)`, or what the store holds; `uar`, with
    its 95 % bootstrap interval, is of the test parts of all folds together.
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
    """The UAR of a ridge classifier on mean-pooled features, for each layer of a store.

    A probe tells how much a layer holds that a line can read, and so which layer to choose; it is
    no recogniser. Channels are standardised on the training part, the strength of the ridge is
    chosen there by leave-one-out among 13 values.

    Args:
        store: features of one layer, or of all (`layer="all"`).
        folds: training and test parts; utterances without features are left out.
        progress: called with the number of layers done and their total number.

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
        truth, guessed = [], []
        for fold in folds:
            train, test = _rows(fold.train, row_of), _rows(fold.test, row_of)
            if len(test) == 0 or len(np.unique(labels[train])) < 2:
                raise StoreError(
                    f"fold {fold.name} leaves the probe {len(train)} training utterances of "
                    f"{len(np.unique(labels[train]))} classes and {len(test)} to test in this "
                    "store; choose another protocol, or extract the whole corpus"
                )
            truth.append(labels[test])
            guessed.append(_ridge(features[train], labels[train], features[test]))
        said, right = np.concatenate(guessed), np.concatenate(truth)
        low, high = uar_interval(right, said)
        score = uar(confusion_matrix(right, said, len(store.class_names)))
        found.append(
            LayerProbe(
                layer=layer, uar=score, uar_low=low, uar_high=high, test_utterances=len(right)
            )
        )
        if progress is not None:
            progress(len(found), store.layers)
    return found


def _time_means(store: FeatureStore, ids: Sequence[str]) -> Float[np.ndarray, "N LD"]:
    # One utterance after the other: all layers of a whole corpus would not fit into memory.
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
    guessed: Int[np.ndarray, "m"] = model.fit(x, labels).predict(unseen)
    return guessed
