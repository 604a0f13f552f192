"""The documentation is a course that is complete and works from disk."""

from __future__ import annotations

import json
import re
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
