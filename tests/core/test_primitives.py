"""oneDNN's cache of compiled operations: bounded where speech gives every batch its own shape."""

from __future__ import annotations

import os

import pytest

import sigma_ser as ss

_VARIABLE = "ONEDNN_PRIMITIVE_CACHE_CAPACITY"


def test_an_encoder_bounds_it_and_the_user_goes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(_VARIABLE, raising=False)
    ss.load_encoder("demo")
    assert 0 < int(os.environ[_VARIABLE]) < 1024
    monkeypatch.setenv(_VARIABLE, "500")
    ss.load_encoder("demo")
    assert os.environ[_VARIABLE] == "500"
