"""Names are found with near matches; files appear whole or not at all."""

from __future__ import annotations

import math
import os
import time
from pathlib import Path

import pytest

import sigma_ser as ss
from sigma_ser.core import registry
from sigma_ser.core.files import (
    content_key,
    remove_unfinished,
    safe_name,
    unfinished,
    whole_file,
    write_json,
)
from sigma_ser.core.settings import parse_assignment, parse_call


def test_a_typo_gets_near_matches() -> None:
    with pytest.raises(ss.errors.UnknownNameError, match="did you mean bilstm"):
        registry.get("head", "bi-lstm")
    with pytest.raises(ss.errors.UnknownNameError, match="no registry is called 'heads'"):
        registry.names("heads")
    with pytest.raises(ss.errors.UnknownNameError, match="known: "):
        registry.get("head", "zzzzzz")


def test_every_kind_has_members() -> None:
    for kind in registry.kinds():
        assert registry.names(kind), kind


@pytest.fixture
def empty_registry(monkeypatch: pytest.MonkeyPatch) -> None:
    """A registry without members whose packages count as loaded."""
    monkeypatch.setattr(registry, "_members", {kind: {} for kind in registry.kinds()})
    monkeypatch.setattr(registry, "_loaded", set(registry.kinds()))


def _member(module: str, name: str = "Member") -> type:
    def make(self: object, width: int, *, steps: int = 3, share: float | None = None) -> None: ...

    return type(name, (), {"__init__": make, "__module__": module, "__qualname__": name})


@pytest.mark.usefixtures("empty_registry")
def test_a_taken_name_is_refused_and_a_reloaded_module_is_not() -> None:
    first, again, other = _member("one"), _member("one"), _member("two")
    registry.register("attack", "mine")(first)
    registry.register("attack", "mine")(first)
    registry.register("attack", "mine")(again)
    assert registry.get("attack", "mine") is again
    with pytest.raises(ss.errors.RegistryError, match=r"'mine' of two .* in one; choose another"):
        registry.register("attack", "mine")(other)
    with pytest.raises(ss.errors.RegistryError):
        registry.register("attack", "mine")(_member("one", "Other"))
    assert registry.get("attack", "mine") is again
    registry.register("head", "mine")(other)


@pytest.mark.usefixtures("empty_registry")
@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"step": 3}, r"no setting 'step'; did you mean steps\? known settings: steps, share"),
        ({"width": 3}, "no setting 'width'; known settings: steps, share"),
        ({"steps": 2.5}, "steps of the .* must be a whole number, got 2.5"),
        ({"steps": True}, "steps of the .* must be a whole number, got True"),
        ({"share": "all"}, "share of the .* must be a number, got 'all'"),
        ({"share": math.nan}, "share of the .* must be finite, got nan"),
        ({"share": math.inf}, "share of the .* must be finite, got inf"),
        ({"steps": 2**63}, "steps of the .* must fit 64 bits, got 9223372036854775808"),
        ({"share": 2**63}, "share of the .* must fit 64 bits"),
    ],
)
def test_settings_are_checked_alike_for_every_kind(settings: dict[str, object], said: str) -> None:
    types = {
        "attack": ss.errors.AttackError,
        "certificate": ss.errors.CertificateError,
        "encoder": ss.errors.EncoderError,
        "explainer": ss.errors.ExplainerError,
        "head": ss.errors.VictimError,
    }
    for kind in registry.kinds():
        registry.register(kind, "mine")(_member("one"))
        for make in (registry.make, registry.check):
            with pytest.raises(types.get(kind, ss.errors.ConfigError), match=said) as caught:
                make(kind, "mine", settings, 8)
            assert f"the {kind} 'mine'" in str(caught.value)
        assert registry.make(kind, "mine", {"share": None, "steps": 4}, width=8)


@pytest.mark.usefixtures("empty_registry")
def test_a_setting_without_a_default_is_asked_for() -> None:
    registry.register("corpus", "mine")(_member("one"))
    with pytest.raises(ss.errors.ConfigError, match="the corpus 'mine' needs the setting 'width'"):
        registry.make("corpus", "mine")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("epochs=20", ("epochs", 20)),
        ("head.hidden = 64", ("head.hidden", 64)),
        ("budgets.epsilon=[0.5, 1]", ("budgets.epsilon", [0.5, 1])),
        ("name=a=b", ("name", "a=b")),
        ("name='a=b'", ("name", "a=b")),
        ("flag=true", ("flag", True)),
        ("name=1\nother = 2", ("name", "1\nother = 2")),
        ("name=", ("name", "")),
    ],
)
def test_an_assignment_is_a_key_and_a_toml_value_or_text(
    text: str, expected: tuple[str, object]
) -> None:
    assert parse_assignment(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("pgd", ("pgd", {})),
        ("pgd()", ("pgd", {})),
        ("foolbox:LinfPGD(steps=3)", ("foolbox:LinfPGD", {"steps": 3})),
        (" a(b=[1, 2], c='x,)y', d=e) ", ("a", {"b": [1, 2], "c": "x,)y", "d": "e"})),
    ],
)
def test_a_call_is_a_name_with_settings(text: str, expected: tuple[str, object]) -> None:
    assert parse_call(text) == expected


@pytest.mark.parametrize("text", ["pgd(", "pgd(3)", "pgd(steps=3", "(steps=3)", "a(b=1, b=2)"])
def test_a_call_in_another_form_is_one_sentence(text: str) -> None:
    with pytest.raises(ss.errors.ConfigError, match=r'write it as "name\(setting=value, ...\)"'):
        parse_call(text)
    for wrong in ("epochs", "=3"):
        with pytest.raises(ss.errors.ConfigError, match="key=value"):
            parse_assignment(wrong)


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


def test_what_killed_writers_leave_is_recognised_and_removed(tmp_path: Path) -> None:
    with whole_file(tmp_path / "a" / "part.safetensors") as aside:
        aside.write_text("half")
        (aside.parent / ".tmpXyZ012").touch()  # as safetensors has it
        (left,) = unfinished(tmp_path)
        assert aside.is_relative_to(left)
        remove_unfinished(tmp_path, older_than=60.0)
        assert aside.exists()
        kept = tmp_path / "b" / left.name
        kept.mkdir(parents=True)
        remove_unfinished(tmp_path, below=False)
        assert kept.exists()
        remove_unfinished(tmp_path / "b")
        assert not kept.exists()
    (tmp_path / "a" / ".tmpAb01cD").touch()  # of earlier versions
    (tmp_path / "a" / ".lock").touch()
    remove_unfinished(tmp_path)
    assert sorted(path.name for path in (tmp_path / "a").iterdir()) == [".lock", "part.safetensors"]


def test_a_write_removes_what_was_abandoned_beside_it(tmp_path: Path) -> None:
    old, fresh = tmp_path / ".a.json.0a1b2c3d", tmp_path / ".a.json.4e5f6a7b"
    for path in (old, fresh):
        path.mkdir()
    os.utime(old, (time.time() - 7200, time.time() - 7200))
    write_json(tmp_path / "b.json", {})
    assert sorted(path.name for path in tmp_path.iterdir()) == [fresh.name, "b.json"]


def test_keys_depend_on_content_alone() -> None:
    assert content_key({"a": [1, 2], "b": None}) == content_key({"b": None, "a": (1, 2)})
    assert content_key({"a": 1}) != content_key({"a": 1.5})


@pytest.mark.parametrize("name", ["..", ".", "", "a/b", "a b", "ä", "run-1.2_x"])
def test_safe_names_stay_in_their_folder(name: str, tmp_path: Path) -> None:
    assert (tmp_path / safe_name(name)).resolve().parent == tmp_path.resolve()
    assert safe_name(safe_name(name)) == safe_name(name)
