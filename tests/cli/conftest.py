"""What all tests of commands share."""

from __future__ import annotations

import pytest


@pytest.fixture(scope="module", autouse=True)
def short_studies(short_runs: None) -> None:
    """Commands run short studies, unless they start an interpreter."""
