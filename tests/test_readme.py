"""The example of the README runs as written."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

README = Path(__file__).parents[1] / "README.md"


@pytest.mark.slow
def test_the_python_example_runs_as_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (example,) = re.findall(r"```python\n(.*?)```", README.read_text("utf-8"), re.S)
    monkeypatch.chdir(tmp_path)
    exec(compile(example, str(README), "exec"), {})
    marked, elsewhere, similar = re.findall(r"[-.\d]+", capsys.readouterr().out)
    # The explanation marks where the victim is vulnerable, and a random mask does not.
    assert 0 < int(elsewhere) < int(marked) < 100
    assert 0 < float(similar) < 1


def test_the_files_it_names_exist() -> None:
    text = README.read_text("utf-8")
    named = re.findall(r"\]\((?!http)([^)]+)\)", text) + re.findall(r"examples/\w+\.toml", text)
    assert named
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    places = {"#" + heading.lower().replace(" ", "-") for heading in headings}
    missing = [name for name in named if name not in places and not (README.parent / name).exists()]
    assert not missing
