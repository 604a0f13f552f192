"""Members of installed packages: an import that fails and a name that is taken are named.

That they are found by name is tested with the examples of docs/extending.md.
"""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

import sigma_ser as ss
from sigma_ser.core import registry


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of an installed package that offers what it says in `entry_points.txt`."""
    described = tmp_path / "my_package-0.1.dist-info"
    described.mkdir()
    (described / "METADATA").write_text("Metadata-Version: 2.1\nName: my-package\nVersion: 0.1\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    for kind in ("attack", "explainer"):
        registry.names(kind)  # what is there already is loaded before, and stays
        monkeypatch.setitem(registry._members, kind, dict(registry._members[kind]))
    monkeypatch.setattr(registry, "_loaded", registry._loaded - {"attack", "explainer"})
    return described


def test_a_member_that_cannot_be_imported_is_named(package: Path) -> None:
    # One broken package ended every command with a traceback of importlib.
    (package / "entry_points.txt").write_text("[sigma_ser.attack]\ntheirs = no_such_file:Theirs\n")
    with pytest.raises(ss.SigmaError, match=r"attack 'theirs' as no_such_file:Theirs.*uninstall"):
        ss.make_attack("pgd")


def test_an_entry_point_with_a_taken_name_is_refused(
    package: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A package whose attack was called `pgd` was ignored without a word.
    (package.parent / "their_attack.py").write_text("class Theirs: ...\n")
    (package / "entry_points.txt").write_text("[sigma_ser.attack]\npgd = their_attack:Theirs\n")
    monkeypatch.delitem(sys.modules, "their_attack", raising=False)
    with pytest.raises(ss.SigmaError, match=r"'pgd' of their_attack .* in sigma_ser\.attacks\.pgd"):
        ss.make_attack("pgd")
    sys.modules.pop("their_attack", None)
