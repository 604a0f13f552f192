"""A finished run knows its encoder without loading it, and notices every change of it."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest

import sigma_ser as ss
from sigma_ser.encoders.source import EMBEDDED
from sigma_ser.study import known_encoder as known_module
from sigma_ser.study.known_encoder import KnownEncoder, remember_cards, remembered_cards


class LoadedError(Exception):
    """Raised where an encoder is loaded that need not be."""


def refuse(**arguments: Any) -> Any:
    raise LoadedError(arguments)


def test_a_finished_run_needs_no_encoder_until_features_are_missing(
    finished: ss.Study, small_study: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "run"
    shutil.copytree(finished.folder, folder)
    monkeypatch.setattr(known_module, "load_encoder", refuse)
    assert ss.run(small_study, out=folder).rows.equals(finished.rows)
    next(folder.glob("features/*/shards/*")).unlink()
    with pytest.raises(LoadedError):
        ss.run(small_study, out=folder)


def test_what_is_damaged_is_as_if_nothing_were_known(finished: ss.Study, tmp_path: Path) -> None:
    assert len(remembered_cards(finished.folder)) == 1
    for text in ("", "[]", '{"a": 1}', '{"a": {"key": "b"}}'):
        (tmp_path / "encoders.json").write_text(text)
        assert remembered_cards(tmp_path) == {}


@pytest.fixture
def encoder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the demo encoder that counts as old enough to be remembered."""
    monkeypatch.setattr(known_module, "_YOUNG_SECONDS", 0.0)
    return Path(shutil.copytree(EMBEDDED["demo"], tmp_path / "encoder"))


def test_a_changed_encoder_is_loaded_again(
    encoder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = {"name_or_path": str(encoder), "layer": -1}
    first = KnownEncoder(arguments, {})
    remember_cards(tmp_path, [first])
    remembered = remembered_cards(tmp_path)
    real = known_module.load_encoder
    monkeypatch.setattr(known_module, "load_encoder", refuse)
    again = KnownEncoder(arguments, remembered)
    assert (again.key, again.card) == (first.key, json.loads(json.dumps(first.card)))
    assert (again.dim, again.frame_seconds) == (first.loaded.dim, first.loaded.frame_seconds)
    with pytest.raises(LoadedError):
        KnownEncoder(arguments | {"layer": 0}, remembered)

    # One bit of the weights, under the same size and modification time.
    (weights,) = encoder.glob("*.safetensors")
    before = weights.stat()
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    os.utime(weights, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert weights.stat().st_mtime_ns == before.st_mtime_ns
    monkeypatch.setattr(known_module, "load_encoder", real)
    assert KnownEncoder(arguments, remembered).key != first.key


def test_files_that_could_change_unseen_are_not_trusted(
    encoder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.undo()
    assert KnownEncoder({"name_or_path": str(encoder), "layer": -1}, {}).stamp is None
    assert KnownEncoder({"name_or_path": "demo", "layer": -1}, {}).stamp is not None
