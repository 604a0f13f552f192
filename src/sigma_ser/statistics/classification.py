"""Classification metrics: confusion matrix, recall of each class, UAR, accuracy, macro-F1."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from .bootstrap import bootstrap_interval


def confusion_matrix(
    labels: Int[np.ndarray, "N"], predictions: Int[np.ndarray, "N"], classes: int
) -> Int[np.ndarray, "C C"]:
    """Count the pairs of true and predicted class.

    Args:
        labels: `(N,)` true class indices, from 0 to `classes - 1`.
        predictions: `(N,)` predicted class indices.
        classes: number of classes `C`.

    Returns:
        Counts `(C, C)`: the row is the true class, the column the predicted class.

    >>> confusion_matrix(np.array([0, 0, 1]), np.array([0, 1, 1]), 2).tolist()
    [[1, 1], [0, 1]]
    """
    cells = labels.astype(np.int64) * classes + predictions.astype(np.int64)
    return np.bincount(cells, minlength=classes * classes).reshape(classes, classes)


def recalls(confusion: Int[np.ndarray, "C C"]) -> Float[np.ndarray, "C"]:
    """Recall of each class `(C,)`, in [0, 1]; NaN for a class that does not occur.

    Args:
        confusion: counts `(C, C)` of `confusion_matrix`.
    """
    shares: Float[np.ndarray, "C"] = _share(confusion.diagonal(), confusion.sum(1))
    return shares


def uar(confusion: Int[np.ndarray, "C C"]) -> float:
    """Unweighted average recall (balanced accuracy) over the classes that occur, in [0, 1].

    Args:
        confusion: counts `(C, C)` of `confusion_matrix`; without any the result is NaN.
    """
    return _mean(recalls(confusion))


def accuracy(confusion: Int[np.ndarray, "C C"]) -> float:
    """Share of correct predictions (weighted accuracy, WA), in [0, 1].

    Args:
        confusion: counts `(C, C)` of `confusion_matrix`; without any the result is NaN.
    """
    return float(_share(np.trace(confusion), confusion.sum()))


def macro_f1(confusion: Int[np.ndarray, "C C"]) -> float:
    """Mean F1 over the classes that occur or are predicted, in [0, 1].

    Args:
        confusion: counts `(C, C)` of `confusion_matrix`; without any the result is NaN.
    """
    hits, total = confusion.diagonal(), confusion.sum(0) + confusion.sum(1)
    return _mean(_share(2 * hits, total))


def uar_interval(
    labels: Int[np.ndarray, "N"],
    predictions: Int[np.ndarray, "N"],
    *,
    level: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
) -> tuple[float, float]:
    """Compute the bootstrap percentile interval of the UAR over utterances.

    A class that is missing from a resample is left out of its UAR.

    Args:
        labels: `(N,)` true class indices.
        predictions: `(N,)` predicted class indices.
        level: coverage, in (0, 1).
        resamples: number of bootstrap samples.
        seed: random seed.

    Returns:
        Lower and upper end; NaN without utterances.
    """
    present, index = np.unique(labels, return_inverse=True)
    member = np.zeros((len(labels), len(present)))
    member[np.arange(len(labels)), index] = 1.0
    hit = member * (labels == predictions)[:, None]

    def statistic(weights: Float[np.ndarray, "R N"]) -> Float[np.ndarray, "R"]:
        drawn = weights @ member
        occurs = drawn > 0
        share = (weights @ hit) / np.where(occurs, drawn, 1.0)
        values: Float[np.ndarray, "R"] = share.sum(1) / occurs.sum(1)
        return values

    return bootstrap_interval(statistic, len(labels), level=level, resamples=resamples, seed=seed)


def classification_scores(
    labels: Int[np.ndarray, "N"],
    predictions: Int[np.ndarray, "N"],
    names: Sequence[str],
    *,
    seed: int = 0,
) -> dict[str, Any]:
    """Compute all scores of a classifier as plain values, ready for JSON.

    Args:
        labels: `(N,)` true class indices.
        predictions: `(N,)` predicted class indices.
        names: class names in the order of the indices.
        seed: random seed of the bootstrap interval.

    Returns:
        `uar`, `uar_low`, `uar_high` (95 % bootstrap), `accuracy`, `macro_f1`, `recalls` (a list,
        `None` where a class does not occur), `test_utterances`, `labels`, `confusion`.
    """
    confusion = confusion_matrix(labels, predictions, len(names))
    low, high = uar_interval(labels, predictions, seed=seed)
    return {
        "uar": uar(confusion),
        "uar_low": low,
        "uar_high": high,
        "accuracy": accuracy(confusion),
        "macro_f1": macro_f1(confusion),
        "recalls": [None if np.isnan(r) else float(r) for r in recalls(confusion)],
        "test_utterances": len(labels),
        "class_names": list(names),
        "confusion": confusion.tolist(),
    }


def _share(part: Any, whole: Any) -> Any:
    whole = np.asarray(whole, dtype=float)
    return np.where(whole > 0, part / np.where(whole > 0, whole, 1.0), np.nan)


def _mean(values: Float[np.ndarray, "C"]) -> float:
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else float("nan")
