"""Public names: complete, the same for type checkers as at run time, and imported at first use."""

from __future__ import annotations

import ast
import importlib
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import sigma_ser as ss
from sigma_ser.core import registry

ROOT = Path(ss.__file__).parent
LAZY = sorted(
    ".".join(["sigma_ser", *path.parent.relative_to(ROOT).parts])
    for path in ROOT.rglob("__init__.py")
    if "lazy_names(" in path.read_text("utf-8")
)


def _static_names(package: str) -> dict[str, str]:
    """The names of the `if TYPE_CHECKING` block of a package, with the modules they come from."""
    path = ROOT.joinpath(*package.split(".")[1:], "__init__.py")
    (block,) = (
        node
        for node in ast.parse(path.read_text("utf-8")).body
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
    )
    return {
        alias.asname or "": ".".join(filter(None, [statement.module, alias.name]))
        for statement in block.body
        if isinstance(statement, ast.ImportFrom)
        for alias in statement.names
    }


@pytest.mark.parametrize("package", LAZY)
def test_type_checkers_see_the_names_that_exist_at_run_time(package: str) -> None:
    module = importlib.import_module(package)
    homes = {
        name: home.removesuffix(":") if home.endswith(":") else f"{home}.{name}"
        for name, home in module._HOMES.items()
    }
    assert _static_names(package) == homes
    # The import of a submodule of the same name would take the place of the object.
    places = {path.stem for path in Path(str(module.__file__)).parent.iterdir()}
    named = {name for name, home in module._HOMES.items() if not home.endswith(":")}
    assert not named & places
    assert list(homes) == sorted(homes)
    for name in module.__all__:
        assert getattr(module, name) is not None
        assert name in dir(module)
    with pytest.raises(AttributeError, match="has no attribute 'attak'"):
        module.attak  # noqa: B018


@pytest.mark.parametrize(
    ("kind", "package"),
    [
        ("attack", "sigma_ser.attacks"),
        ("explainer", "sigma_ser.explainers"),
        ("head", "sigma_ser.victims.heads"),
    ],
)
def test_every_registered_class_is_exported_by_its_package(kind: str, package: str) -> None:
    exported = importlib.import_module(package)
    for name in registry.names(kind):
        member = registry.get(kind, name)
        if member.__module__.startswith(f"{package}."):
            assert getattr(exported, member.__name__) is member, name


def test_importing_the_package_imports_nothing_heavy() -> None:
    script = (
        "import sys; before = set(sys.modules); import sigma_ser\n"
        "print(*sorted(name for name in set(sys.modules) - before"
        " if name.partition('.')[0] not in sys.stdlib_module_names))"
    )
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert ran.stdout.split() == ["sigma_ser", "sigma_ser.core", "sigma_ser.core.lazy"]


def test_the_package_says_that_it_is_typed() -> None:
    assert (ROOT / "py.typed").is_file()


def _task() -> tuple[ss.Victim, ss.FeatureBatch, torch.Tensor]:
    victim = ss.testing.example_victim()
    batch = ss.testing.example_batch(victim)
    return victim, batch, victim(batch.x, batch.lengths).argmax(1)


def test_an_attack_acts_by_name_as_an_explainer_does() -> None:
    victim, batch, labels = _task()
    budget = ss.Budget(sparsity=0.2, epsilon=1.0)
    result = ss.attack("random", victim, batch, labels, budget, draws=3)
    built = ss.make_attack("random", draws=3)
    for same in (
        built(victim, batch, labels, budget),
        ss.attack(built, victim, batch, labels, budget),
        ss.attacks.RandomCorner(draws=3)(victim, batch, labels, budget),
    ):
        assert torch.equal(same.x_adv, result.x_adv)
    moved = result.features(batch)
    assert moved.ids == batch.ids
    assert torch.equal(moved.x, result.x_adv)
    assert torch.equal(moved.lengths, batch.lengths)


def test_an_attack_without_a_victim_names_the_function_that_builds_one() -> None:
    victim, batch, labels = _task()
    with pytest.raises(ss.errors.AttackError, match=r"without victim, batch.*make_attack\(name\)"):
        ss.attack("pgd")
    with pytest.raises(ss.errors.AttackError, match=r"settings \(steps\).*make_attack"):
        ss.attack(ss.make_attack("pgd"), victim, batch, labels, ss.Budget(sparsity=0.1), steps=3)
