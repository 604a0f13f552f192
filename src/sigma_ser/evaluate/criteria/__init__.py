"""Criteria of an audit: what is declared before the run, and what the results say about it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sigma_ser.core.lazy import lazy_names

if TYPE_CHECKING:
    from .declared import Criteria as Criteria
    from .declared import criteria_text as criteria_text
    from .findings import Finding as Finding
    from .findings import audit_findings as audit_findings
    from .loading import load_criteria as load_criteria
    from .outcome import Outcome as Outcome
    from .outcome import overall as overall
    from .results import outcomes_of as outcomes_of

_HOMES = {
    "Criteria": "declared",
    "Finding": "findings",
    "Outcome": "outcome",
    "audit_findings": "findings",
    "criteria_text": "declared",
    "load_criteria": "loading",
    "outcomes_of": "results",
    "overall": "outcome",
}

if not TYPE_CHECKING:
    __getattr__, __dir__, __all__ = lazy_names(__name__, _HOMES)
