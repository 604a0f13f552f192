"""SIGMA: saliency-guided sparse mask attacks for speech emotion recognition.

Public names are imported when they are first used, so `import sigma_ser` takes no time.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .core.lazy import lazy_names

if TYPE_CHECKING:
    from . import attacks as attacks
    from . import certificates as certificates
    from . import explainers as explainers
    from . import testing as testing
    from .attacks.base import SparseAttack as SparseAttack
    from .attacks.factory import attack as attack
    from .attacks.factory import make_attack as make_attack
    from .attacks.gradient_checks import GradientCheck as GradientCheck
    from .attacks.gradient_checks import check_gradients as check_gradients
    from .attacks.sigma import Sigma as Sigma
    from .attacks.success_curve import success_curve as success_curve
    from .certificates.certificate import Certificate as Certificate
    from .certificates.choice import certify as certify
    from .core import errors as errors
    from .core import registry as registry
    from .core.audit import audit as audit
    from .core.budget import Budget as Budget
    from .core.contracts import Attack as Attack
    from .core.contracts import AttackResult as AttackResult
    from .core.contracts import Explainer as Explainer
    from .core.contracts import Explanation as Explanation
    from .core.contracts import Victim as Victim
    from .core.errors import SigmaError as SigmaError
    from .core.features import FeatureBatch as FeatureBatch
    from .core.progress_bars import show_progress as show_progress
    from .core.utterance import Utterance as Utterance
    from .corpora.corpus import Corpus as Corpus
    from .corpora.corpus import load_corpus as load_corpus
    from .corpora.folds import Fold as Fold
    from .corpora.folds import make_folds as make_folds
    from .corpora.waveforms import waveforms as waveforms
    from .encoders.encoder import load_encoder as load_encoder
    from .encoders.extraction import extract as extract
    from .encoders.family import Encoder as Encoder
    from .encoders.store import FeatureStore as FeatureStore
    from .evaluate.consistency.measures import consistency as consistency
    from .explainers.base import BaseExplainer as BaseExplainer
    from .explainers.explanation import explain as explain
    from .explainers.explanation import make_explainer as make_explainer
    from .masks.bank import MaskBank as MaskBank
    from .masks.topk import topk_mask as topk_mask
    from .study.run import Study as Study
    from .study.run import run as run
    from .victims import heads as heads
    from .victims.loading import load_victim as load_victim
    from .victims.realise import Realisation as Realisation
    from .victims.realise import random_counterpart as random_counterpart
    from .victims.realise import realise as realise
    from .victims.training import train as train
    from .victims.victim import wrap as wrap
    from .victims.waveform import on_waveform as on_waveform

__version__ = "0.1.0"

_HOMES = {
    "Attack": "core.contracts",
    "AttackResult": "core.contracts",
    "BaseExplainer": "explainers.base",
    "Budget": "core.budget",
    "Certificate": "certificates.certificate",
    "Corpus": "corpora.corpus",
    "Encoder": "encoders.family",
    "Explainer": "core.contracts",
    "Explanation": "core.contracts",
    "FeatureBatch": "core.features",
    "FeatureStore": "encoders.store",
    "Fold": "corpora.folds",
    "GradientCheck": "attacks.gradient_checks",
    "MaskBank": "masks.bank",
    "Realisation": "victims.realise",
    "Sigma": "attacks.sigma",
    "SigmaError": "core.errors",
    "SparseAttack": "attacks.base",
    "Study": "study.run",
    "Utterance": "core.utterance",
    "Victim": "core.contracts",
    "attack": "attacks.factory",
    "attacks": "attacks:",
    "audit": "core.audit",
    "certificates": "certificates:",
    "certify": "certificates.choice",
    "check_gradients": "attacks.gradient_checks",
    "consistency": "evaluate.consistency.measures",
    "errors": "core.errors:",
    "explain": "explainers.explanation",
    "explainers": "explainers:",
    "extract": "encoders.extraction",
    "heads": "victims.heads:",
    "load_corpus": "corpora.corpus",
    "load_encoder": "encoders.encoder",
    "load_victim": "victims.loading",
    "make_attack": "attacks.factory",
    "make_explainer": "explainers.explanation",
    "make_folds": "corpora.folds",
    "on_waveform": "victims.waveform",
    "random_counterpart": "victims.realise",
    "realise": "victims.realise",
    "registry": "core.registry:",
    "run": "study.run",
    "show_progress": "core.progress_bars",
    "success_curve": "attacks.success_curve",
    "testing": "testing:",
    "topk_mask": "masks.topk",
    "train": "victims.training",
    "waveforms": "corpora.waveforms",
    "wrap": "victims.victim",
}

if not TYPE_CHECKING:
    __getattr__, __dir__, __all__ = lazy_names(__name__, _HOMES)
    __all__ += ["__version__"]
