"""Quality of explanations: faithfulness curves, sparsity of the map, stability."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sigma_ser.core.lazy import lazy_names

if TYPE_CHECKING:
    from .measures import QualitySettings as QualitySettings
    from .measures import quality as quality

_HOMES = {
    "QualitySettings": "measures",
    "quality": "measures",
}

if not TYPE_CHECKING:
    __getattr__, __dir__, __all__ = lazy_names(__name__, _HOMES)
