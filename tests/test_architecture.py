"""Laws of the source tree: order of the packages, no import cycles, size of the study packages."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from functools import cache
from graphlib import CycleError, TopologicalSorter

import pytest

from draw_architecture import draw
from import_graph import (
    PACKAGES,
    REPOSITORY,
    ROOT,
    Import,
    list_imports,
    list_modules,
    package_of,
    read_imports,
)


@cache
def _imports() -> list[Import]:
    return list_imports(list_modules())


def test_every_package_has_its_place_in_the_order() -> None:
    found = {path.parent.name for path in ROOT.glob("*/__init__.py")}
    assert found <= set(PACKAGES)


def test_a_package_imports_only_packages_before_it() -> None:
    place = {name: position for position, name in enumerate(PACKAGES)}
    upward = [
        f"{found.source}:{found.line} imports {found.target}"
        for found in _imports()
        if (source := package_of(found.source)) in place
        and (target := package_of(found.target)) in place
        and place[target] > place[source]
    ]
    assert not upward, "\n".join(upward)


def test_no_package_imports_the_conformance_suite() -> None:
    users = {found.source for found in _imports() if package_of(found.target) == "testing"} - {
        "sigma_ser"
    }  # the lazy public names
    assert {package_of(user) for user in users} <= {"testing"}


def _cycle(graph: dict[str, set[str]]) -> list[str]:
    """One cycle of a graph, its first node repeated at the end; empty where there is none."""
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return list(error.args[1])
    return []


def test_no_modules_import_each_other_in_a_circle() -> None:
    graph: dict[str, set[str]] = {name: set() for name in list_modules()}
    for found in _imports():
        if found.at_import_time:
            graph[found.source].add(found.target)
    assert not _cycle(graph)


def test_the_search_for_cycles_finds_one() -> None:
    assert set(_cycle({"a": {"b"}, "b": {"c"}, "c": {"b"}, "d": set()})) == {"b", "c"}
    assert _cycle({"a": {"b", "c"}, "b": {"c"}, "c": set()}) == []


def test_imports_in_functions_and_for_type_checkers_are_found() -> None:
    source = (
        "import sigma_ser.core.budget\nimport torch\n"
        "if TYPE_CHECKING:\n    from ..core import errors\nelse:\n    from ..core.topk import x\n"
        "class A:\n    from . import base\n"
        "    def late(self):\n        from ..masks.topk import y\n"
    )
    found = read_imports(
        "sigma_ser.attacks.imagined", source, ["sigma_ser", "attacks"], list_modules()
    )
    assert [(each.target, each.at_import_time) for each in found] == [
        ("sigma_ser.core.budget", True),
        ("sigma_ser.core.errors", False),
        ("sigma_ser.core.topk", True),
        ("sigma_ser.attacks.base", True),
        ("sigma_ser.masks.topk", False),
    ]


@pytest.mark.parametrize(("package", "most"), [("study", 28), ("runs", 8)])
def test_packages_of_studies_stay_small(package: str, most: int) -> None:
    modules = {path.stem for path in (ROOT / package).rglob("*.py")} - {"__init__"}
    assert len(modules) <= most


@pytest.mark.slow
def test_the_drawing_names_every_package_and_is_the_same_each_time() -> None:
    image = draw(list_modules())
    assert image == draw(list_modules())
    words = {text.strip() for text in ET.fromstring(image).itertext()}
    assert {path.parent.name for path in ROOT.glob("*/__init__.py")} <= words


# Wording that the project's texts and messages do not use (CONTRIBUTING.md, Style).
UNWANTED = re.compile(r"\btold\b|at the most so", re.IGNORECASE)
NOTICE = re.compile(r"\b[A-Z][A-Z_]+\.md\b")


def _lines() -> Iterator[tuple[str, str]]:
    """Each line of the sources and the documentation, with its place."""
    suffixes = {".py", ".md", ".ipynb", ".toml", ".html", ".js", ".css", ".j2", ".jinja"}
    files = [*REPOSITORY.glob("*.md"), *ROOT.rglob("*"), *(REPOSITORY / "docs").rglob("*")]
    for path in sorted(path for path in files if path.suffix in suffixes):
        for number, line in enumerate(path.read_text("utf-8").splitlines(), 1):
            yield f"{path.relative_to(REPOSITORY)}:{number}", line


def test_unwanted_words_do_not_return() -> None:
    found = [f"{place}: {line.strip()[:100]}" for place, line in _lines() if UNWANTED.search(line)]
    assert not found, "\n".join(found)


def test_named_markdown_files_exist() -> None:
    known = {path.name for path in REPOSITORY.glob("*.md")}
    for folder in ("src", "docs", "tools", "benchmarks", "tests", ".github"):
        known |= {path.name for path in (REPOSITORY / folder).rglob("*.md")}
    missing = {
        f"{place}: {name}"
        for place, line in _lines()
        for name in NOTICE.findall(line)
        if name not in known
    }
    assert not missing, "\n".join(sorted(missing))
