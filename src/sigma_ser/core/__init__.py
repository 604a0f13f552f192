"""Types that all other packages share: features, budget, audit, seeds, errors, registry.

This package imports no other one of the project.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .lazy import lazy_names

if TYPE_CHECKING:
    from .budget import Budget as Budget
    from .contracts import Attack as Attack
    from .contracts import AttackResult as AttackResult
    from .contracts import Explainer as Explainer
    from .contracts import Explanation as Explanation
    from .contracts import Victim as Victim
    from .features import FeatureBatch as FeatureBatch
    from .registry import register as register
    from .utterance import Utterance as Utterance

_HOMES = {
    "Attack": "contracts",
    "AttackResult": "contracts",
    "Budget": "budget",
    "Explainer": "contracts",
    "Explanation": "contracts",
    "FeatureBatch": "features",
    "Utterance": "utterance",
    "Victim": "contracts",
    "register": "registry",
}

if not TYPE_CHECKING:
    __getattr__, __dir__, __all__ = lazy_names(__name__, _HOMES)
