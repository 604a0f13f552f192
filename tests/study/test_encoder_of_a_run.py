"""A finished run describes its encoder from config and weight files, without loading the model."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

import sigma_ser as ss
from sigma_ser.encoders.family import Encoder
from sigma_ser.encoders.source import EMBEDDED


class LoadedError(Exception):
    """Raised where a model is loaded that need not be."""


def refuse(_: Encoder) -> Any:
    raise LoadedError


def test_a_finished_run_loads_no_model_until_features_are_missing(
    finished: ss.Study, small_study: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "run"
    shutil.copytree(finished.folder, folder)
    monkeypatch.setattr(Encoder, "load", refuse)
    assert ss.run(small_study, out=folder).rows.equals(finished.rows)
    next(folder.glob("features/*/shards/*")).unlink()
    with pytest.raises(LoadedError):
        ss.run(small_study, out=folder)


def test_one_changed_bit_of_the_weights_is_another_encoder(
    finished: ss.Study, small_study: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "run"
    shutil.copytree(finished.folder, folder)
    encoder = Path(shutil.copytree(EMBEDDED["demo"], tmp_path / "encoder"))
    (weights,) = encoder.glob("*.safetensors")
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    small_study["encoder"] = [{"name": str(encoder)}]
    monkeypatch.setattr(Encoder, "load", refuse)
    with pytest.raises(LoadedError):
        ss.run(small_study, out=folder)
