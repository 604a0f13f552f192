"""Names are found with near matches; files appear whole or not at all."""

from __future__ import annotations

from pathlib import Path

import pytest

import sigma_ser as ss
from sigma_ser.core import registry
from sigma_ser.core.files import content_key, safe_name, whole_file


def test_a_typo_gets_near_matches() -> None:
    with pytest.raises(ss.errors.UnknownNameError, match="did you mean bilstm"):
        registry.get("head", "bi-lstm")
    with pytest.raises(ss.errors.UnknownNameError, match="no registry is called 'heads'"):
        registry.names("heads")
    with pytest.raises(ss.errors.UnknownNameError, match="known: "):
        registry.get("head", "zzzzzz")


def test_every_room_has_members() -> None:
    for kind in registry.kinds():
        assert registry.names(kind), kind


def test_public_names_lead_somewhere() -> None:
    for name in ss.__all__:
        assert getattr(ss, name) is not None
    with pytest.raises(AttributeError):
        ss.attak  # noqa: B018


def test_a_failed_write_leaves_nothing(tmp_path: Path) -> None:
    target = tmp_path / "deep" / "file.txt"
    target.parent.mkdir()
    target.write_text("old")

    def write_half() -> None:
        with whole_file(target) as aside:
            aside.write_text("new")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        write_half()
    assert [path.read_text() for path in target.parent.iterdir()] == ["old"]


def test_keys_depend_on_content_alone() -> None:
    assert content_key({"a": [1, 2], "b": None}) == content_key({"b": None, "a": (1, 2)})
    assert content_key({"a": 1}) != content_key({"a": 1.5})


@pytest.mark.parametrize("name", ["..", ".", "", "a/b", "a b", "ä", "run-1.2_x"])
def test_safe_names_stay_in_their_folder(name: str, tmp_path: Path) -> None:
    assert (tmp_path / safe_name(name)).resolve().parent == tmp_path.resolve()
    assert safe_name(safe_name(name)) == safe_name(name)
