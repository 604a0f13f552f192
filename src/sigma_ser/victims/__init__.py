"""Victims: heads, training, checkpoints, and classifiers from other packages.

`train` makes a victim of a feature store, `load_victim` reads one, `wrap` takes a torch module.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sigma_ser.core.lazy import lazy_names

if TYPE_CHECKING:
    from .checkpoint import TrainedVictim as TrainedVictim
    from .checkpoint import make_head as make_head
    from .evaluation import evaluate as evaluate
    from .loading import load_victim as load_victim
    from .settings import AdversarialTraining as AdversarialTraining
    from .settings import TrainingSettings as TrainingSettings
    from .training import train as train
    from .training import trained_before as trained_before
    from .victim import WrappedVictim as WrappedVictim
    from .victim import wrap as wrap

_HOMES = {
    "AdversarialTraining": "settings",
    "TrainedVictim": "checkpoint",
    "TrainingSettings": "settings",
    "WrappedVictim": "victim",
    "evaluate": "evaluation",
    "load_victim": "loading",
    "make_head": "checkpoint",
    "train": "training",
    "trained_before": "training",
    "wrap": "victim",
}

if not TYPE_CHECKING:
    __getattr__, __dir__, __all__ = lazy_names(__name__, _HOMES)
