"""The conformance suite: each function checks the laws of one kind of member, also of yours.

A broken law raises `ConformanceError` with one sentence that names the law and how it was broken.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sigma_ser.core.lazy import lazy_names

if TYPE_CHECKING:
    from .attacks import check_attack as check_attack
    from .attacks import check_attack_run as check_attack_run
    from .certificates import check_certificate as check_certificate
    from .corpora import check_corpus as check_corpus
    from .corruptions import check_corruption as check_corruption
    from .encoders import check_encoder as check_encoder
    from .examples import example_batch as example_batch
    from .examples import example_settings as example_settings
    from .examples import example_victim as example_victim
    from .explainers import check_explainer as check_explainer
    from .heads import check_head as check_head
    from .laws import ConformanceError as ConformanceError

_HOMES = {
    "ConformanceError": "laws",
    "check_attack": "attacks",
    "check_attack_run": "attacks",
    "check_certificate": "certificates",
    "check_corpus": "corpora",
    "check_corruption": "corruptions",
    "check_encoder": "encoders",
    "check_explainer": "explainers",
    "check_head": "heads",
    "example_batch": "examples",
    "example_settings": "examples",
    "example_victim": "examples",
}

if not TYPE_CHECKING:
    __getattr__, __dir__, __all__ = lazy_names(__name__, _HOMES)
