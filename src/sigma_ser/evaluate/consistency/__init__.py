"""How much of an explanation remains after an attack: set, rank and shape measures.

Every measure has a floor (a random perturbation of the same size) and a ceiling (the clean input
explained twice).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sigma_ser.core.lazy import lazy_names

if TYPE_CHECKING:
    from .floor import consistency_ceiling as consistency_ceiling
    from .floor import consistency_floor as consistency_floor
    from .floor import random_perturbation as random_perturbation
    from .measures import compare as compare
    from .measures import consistency as consistency

_HOMES = {
    "compare": "measures",
    "consistency": "measures",
    "consistency_ceiling": "floor",
    "consistency_floor": "floor",
    "random_perturbation": "floor",
}

if not TYPE_CHECKING:
    __getattr__, __dir__, __all__ = lazy_names(__name__, _HOMES)
