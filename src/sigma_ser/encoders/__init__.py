"""Frozen speech encoders, one family a module, and the store of their features.

`load_encoder` makes an encoder of a name or folder, `extract` fills a `FeatureStore`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sigma_ser.core.lazy import lazy_names

if TYPE_CHECKING:
    from .encoder import load_encoder as load_encoder
    from .extraction import extract as extract
    from .family import Encoder as Encoder
    from .store import FeatureStore as FeatureStore

_HOMES = {
    "Encoder": "family",
    "FeatureStore": "store",
    "extract": "extraction",
    "load_encoder": "encoder",
}

if not TYPE_CHECKING:
    __getattr__, __dir__, __all__ = lazy_names(__name__, _HOMES)
