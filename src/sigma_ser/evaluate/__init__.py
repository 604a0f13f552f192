"""Evaluation of attacks and explanations: success, size, consistency, quality, transfer, cost."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sigma_ser.core.lazy import lazy_names

if TYPE_CHECKING:
    from .probe import LayerProbe as LayerProbe
    from .probe import probe_layers as probe_layers
    from .size import sizes as sizes
    from .summary import summarise as summarise

_HOMES = {
    "LayerProbe": "probe",
    "probe_layers": "probe",
    "sizes": "size",
    "summarise": "summary",
}

if not TYPE_CHECKING:
    __getattr__, __dir__, __all__ = lazy_names(__name__, _HOMES)
