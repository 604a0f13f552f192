"""The documentation is a course that is complete and works from disk."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[2]
NOTEBOOK = PROJECT / "docs" / "tutorial" / "first-hour.ipynb"
# `make docs` writes these pages.
GENERATED = {"reference/commands.md", "tutorial/first-hour.md"}


def _navigation() -> str:
    text = (PROJECT / "mkdocs.yml").read_text("utf-8")
    return text[text.index("\nnav:") : text.index("\ntheme:")]


def test_every_page_is_in_the_navigation_once() -> None:
    named = re.findall(r"- (?:Home: )?([\w/-]+\.md)$", _navigation(), re.M)
    docs = PROJECT / "docs"
    written = {str(page.relative_to(docs)) for page in docs.rglob("*.md")} | GENERATED
    assert sorted(named) == sorted(written)
    parts = re.findall(r"^  - ([\w-]+):$", _navigation(), re.M)
    assert parts == ["Tutorial", "How-to", "Explanation", "Reference"]


def test_the_site_fetches_nothing_and_works_from_disk() -> None:
    text = (PROJECT / "mkdocs.yml").read_text("utf-8")
    assert "use_directory_urls: false" in text
    assert "\n  - offline\n" in text
    (script,) = re.findall(r"- (\S*iframe-worker\S*)", text)
    assert (PROJECT / "docs" / script).is_file()


def test_what_the_site_loads_of_its_own_exists() -> None:
    text = (PROJECT / "mkdocs.yml").read_text("utf-8")
    named = re.findall(r"- ((?:stylesheets|javascripts)/\S+)", text)
    assert "javascripts/accessible.js" in named
    assert [one for one in named if not (PROJECT / "docs" / one).is_file()] == []


def _luminance(colour: Sequence[float]) -> float:
    """Relative luminance of sRGB in [0, 1] (WCAG 2.2)."""
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in colour]
    return sum(share * one for share, one in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def _contrast(one: Sequence[float], other: Sequence[float]) -> float:
    low, high = sorted((_luminance(one), _luminance(other)))
    return (high + 0.05) / (low + 0.05)


def _hex(text: str) -> list[float]:
    return [int(text[at : at + 2], 16) / 255 for at in range(1, len(text), 2)]


def test_comments_in_code_and_tabs_of_the_site_can_be_read() -> None:
    # WCAG 2.2 AA asks for 4.5. The theme writes code on #f5f5f5 and the names of the tabs in white.
    text = (PROJECT / "docs" / "stylesheets" / "extra.css").read_text("utf-8")
    light = text[: text.index("slate")] + text[text.index("/* Contrast") :]
    (muted,) = re.findall(r"--md-default-fg-color--light: (#\w{8});", light)
    *ink, alpha = _hex(muted)
    paper = _hex("#f5f5f5")
    mixed = [alpha * a + (1 - alpha) * b for a, b in zip(ink, paper, strict=True)]
    assert _contrast(mixed, paper) >= 4.5
    (primary,) = re.findall(r"--md-primary-fg-color: (#\w{6});", text[: text.index("slate")])
    assert _contrast([1.0, 1.0, 1.0], _hex(primary)) >= 4.5
    assert re.search(r"\.md-tabs__link \{\s+opacity: 1;", text)


def test_the_notebook_has_code_that_compiles_and_no_outputs() -> None:
    cells = json.loads(NOTEBOOK.read_text("utf-8"))["cells"]
    code = [cell for cell in cells if cell["cell_type"] == "code"]
    assert len(code) > 10
    for cell in code:
        compile("".join(cell["source"]), cell["id"], "exec")
        assert cell["outputs"] == []
        assert cell["execution_count"] is None


def test_links_of_the_notebook_lead_to_pages() -> None:
    text = NOTEBOOK.read_text("utf-8")
    linked = re.findall(r"\]\(([\w./-]+\.md)", text)
    assert linked
    assert [one for one in linked if not (NOTEBOOK.parent / one).resolve().is_file()] == []


@pytest.mark.parametrize("folder", ["src", "tools", "benchmarks"])
def test_docstrings_have_no_roles_of_sphinx(folder: str) -> None:
    # They would be printed as they are, in the documentation and by `sigma-ser show`.
    role = re.compile(r":(?:class|func|meth|mod|attr|data|obj):`")
    found = [path for path in (PROJECT / folder).rglob("*.py") if role.search(path.read_text())]
    assert found == []
