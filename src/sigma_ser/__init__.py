"""SIGMA: saliency-guided sparse mask attacks for speech emotion recognition.

Public names are imported when they are first used, so that `import sigma_ser` is instant.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .attacks.factory import attack as attack
    from .attacks.factory import make_attack as make_attack
    from .attacks.sigma import Sigma as Sigma
    from .core import errors as errors
    from .core import registry as registry
    from .core.budget import Budget as Budget
    from .core.contracts import AttackResult as AttackResult
    from .core.contracts import Victim as Victim
    from .core.errors import SigmaError as SigmaError
    from .core.features import FeatureBatch as FeatureBatch
    from .core.utterance import Utterance as Utterance
    from .corpora.corpus import Corpus as Corpus
    from .corpora.corpus import load_corpus as load_corpus
    from .corpora.folds import Fold as Fold
    from .corpora.folds import make_folds as make_folds
    from .encoders.encoder import load_encoder as load_encoder
    from .encoders.extraction import extract as extract
    from .encoders.store import FeatureStore as FeatureStore
    from .evaluate.consistency.measures import consistency as consistency
    from .explainers.explanation import explain as explain
    from .explainers.explanation import make_explainer as make_explainer
    from .masks.topk import topk_mask as topk_mask
    from .study.run import Study as Study
    from .study.run import run as run
    from .victims.loading import load_victim as load_victim
    from .victims.training import train as train
    from .victims.victim import wrap as wrap

__version__ = "0.1.0"

_HOMES = {
    "AttackResult": "core.contracts",
    "Budget": "core.budget",
    "Corpus": "corpora.corpus",
    "FeatureBatch": "core.features",
    "FeatureStore": "encoders.store",
    "Fold": "corpora.folds",
    "Sigma": "attacks.sigma",
    "SigmaError": "core.errors",
    "Study": "study.run",
    "Utterance": "core.utterance",
    "Victim": "core.contracts",
    "attack": "attacks.factory",
    "consistency": "evaluate.consistency.measures",
    "errors": "core.errors",
    "explain": "explainers.explanation",
    "extract": "encoders.extraction",
    "load_corpus": "corpora.corpus",
    "load_encoder": "encoders.encoder",
    "load_victim": "victims.loading",
    "make_attack": "attacks.factory",
    "make_explainer": "explainers.explanation",
    "make_folds": "corpora.folds",
    "registry": "core.registry",
    "run": "study.run",
    "topk_mask": "masks.topk",
    "train": "victims.training",
    "wrap": "victims.victim",
}
__all__ = [*_HOMES, "__version__"]  # noqa: PLE0604 - built from the table above


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = importlib.import_module(f"{__name__}.{_HOMES[name]}")
    value = module if _HOMES[name] == f"core.{name}" else getattr(module, name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
