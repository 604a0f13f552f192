"""Natural corruptions of recordings, one module each: controls beside the attacks on audio."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sigma_ser.core.lazy import lazy_names

if TYPE_CHECKING:
    from .base import Corruption as Corruption

_HOMES = {"Corruption": "base"}

if not TYPE_CHECKING:
    __getattr__, __dir__, __all__ = lazy_names(__name__, _HOMES)
