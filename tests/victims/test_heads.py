"""Laws of every head: exact under padding and batch composition, no gradient on padding."""

from __future__ import annotations

import pytest

from sigma_ser.core import registry
from sigma_ser.testing import check_head


@pytest.mark.parametrize("name", registry.names("head"))
def test_every_head_passes_the_conformance_suite(name: str) -> None:
    check_head(name, channels=12, classes=5)
    check_head(name, channels=8, classes=2)


def test_settings_change_the_head() -> None:
    make = registry.get("head", "mlp")
    small, large = (sum(p.numel() for p in make(8, 3, hidden=h).parameters()) for h in (4, 16))
    assert small < large
