"""Doctests become example sections when the documentation is built."""

from __future__ import annotations

import pytest

pytest.importorskip("griffe")
from doctest_examples import with_headings


def test_a_doctest_gets_a_heading_and_the_text_around_it_stays() -> None:
    assert with_headings("Add.\n\n>>> 1 + 1\n2\n\nMore.") == (
        "Add.\n\nExamples:\n    >>> 1 + 1\n    2\n\nMore."
    )


def test_an_example_section_stays_as_it_is() -> None:
    written = "Add.\n\nExamples:\n    >>> 1 + 1\n    2"
    assert with_headings(written) == written
