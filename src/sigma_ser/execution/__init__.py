"""Executors of independent tasks: in this process, in worker processes, or on a cluster."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sigma_ser.core.lazy import lazy_names

if TYPE_CHECKING:
    from .executor import Executor as Executor
    from .executor import LostTaskError as LostTaskError
    from .executor import load_executor as load_executor
    from .executor import ordered as ordered

_HOMES = {
    "Executor": "executor",
    "LostTaskError": "executor",
    "load_executor": "executor",
    "ordered": "executor",
}

if not TYPE_CHECKING:
    __getattr__, __dir__, __all__ = lazy_names(__name__, _HOMES)
