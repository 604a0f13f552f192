"""What all tests of commands share."""

from __future__ import annotations

import pytest


@pytest.fixture(scope="module", autouse=True)
def without_figures(no_figures: None) -> None:
    """Figures have tests of their own; commands that start an interpreter draw them."""
