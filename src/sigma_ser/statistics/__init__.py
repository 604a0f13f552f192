"""Scores of classifiers, confidence intervals and paired tests."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sigma_ser.core.lazy import lazy_names

if TYPE_CHECKING:
    from .bootstrap import bootstrap_interval as bootstrap_interval
    from .bootstrap import mean_interval as mean_interval
    from .classification import accuracy as accuracy
    from .classification import classification_scores as classification_scores
    from .classification import confusion_matrix as confusion_matrix
    from .classification import macro_f1 as macro_f1
    from .classification import uar as uar
    from .classification import uar_interval as uar_interval
    from .mcnemar import holm as holm
    from .mcnemar import mcnemar_counts as mcnemar_counts
    from .proportion import wilson_interval as wilson_interval

_HOMES = {
    "accuracy": "classification",
    "bootstrap_interval": "bootstrap",
    "classification_scores": "classification",
    "confusion_matrix": "classification",
    "holm": "mcnemar",
    "macro_f1": "classification",
    "mcnemar_counts": "mcnemar",
    "mean_interval": "bootstrap",
    "uar": "classification",
    "uar_interval": "classification",
    "wilson_interval": "proportion",
}

if not TYPE_CHECKING:
    __getattr__, __dir__, __all__ = lazy_names(__name__, _HOMES)
