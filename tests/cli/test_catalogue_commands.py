"""`list` and `show`: every component has a line, and its settings are those of its signature."""

from __future__ import annotations

import inspect
import json

import pytest
import typer
from typer.testing import CliRunner

import sigma_ser as ss
from sigma_ser.cli import catalogue
from sigma_ser.core.descriptions import describe, summary
from sigma_ser.core.errors import UnknownNameError

app = typer.Typer()
app.command("list")(catalogue.list_names)
app.command("show")(catalogue.show)


def _printed(*arguments: str, columns: int | None = None) -> str:
    done = CliRunner().invoke(app, arguments, env={"COLUMNS": str(columns) if columns else ""})
    assert done.exit_code == 0, done.output
    return done.output


def _shipped() -> list[tuple[str, str]]:
    return [
        (kind, name)
        for kind in ss.registry.kinds()
        for name in ss.registry.names(kind)
        if ss.registry.get(kind, name).__module__.startswith("sigma_ser.")
    ]


def test_list_gives_each_name_its_summary_on_one_line_where_it_is_piped() -> None:
    lines = _printed("list").splitlines()
    for kind, name in _shipped():
        assert any(line.split() == [name, *summary(kind, name).split()] for line in lines), name


def test_list_fits_a_narrow_terminal_and_cuts_nothing() -> None:
    text = _printed("list", "explainer", columns=60)
    assert max(map(len, text.splitlines())) <= 60
    for name in ss.registry.names("explainer"):
        assert " ".join(summary("explainer", name).split()) in " ".join(text.split())


@pytest.mark.parametrize(("kind", "name"), _shipped())
def test_every_setting_of_a_component_is_described(kind: str, name: str) -> None:
    one = describe(kind, name)
    assert one.summary
    assert not [text for text in (one.summary, *one.text) if ":class:" in text or "Args:" in text]
    parameters = inspect.signature(ss.registry.get(kind, name)).parameters
    for setting in one.settings:
        given = parameters[setting.name].default
        assert (setting.default is None) == (given is inspect.Parameter.empty)
    if kind in {"attack", "explainer", "head", "corruption"}:
        assert [setting.name for setting in one.settings if not setting.text] == []


def test_show_names_source_choices_and_passes() -> None:
    text = _printed("show", "dual-averaging")
    assert "Source: Nesterov 2009, eq. 2.14" in text
    assert "steps        int, default 10: gradient steps per run" in text
    # Two rounds of ten steps on two losses, and a forward and a backward pass in each; the
    # clean input and the end of each run are classified as well.
    assert "Passes: 85 forward and backward passes" in text
    feedback = next(
        one for one in describe("attack", "onepixel").settings if one.name == "feedback"
    )
    assert (feedback.type, feedback.default) == ("logits | decision", "logits")
    assert "Pichora-Fuller" in describe("corpus", "tess").citation


def test_show_finds_a_name_of_two_kinds_and_a_near_match() -> None:
    found = json.loads(_printed("show", "random", "--json"))
    assert [(one["kind"], one["passes"]) for one in found] == [("attack", 2.0), ("explainer", None)]
    (one,) = json.loads(_printed("show", "random", "--kind", "explainer", "--json"))
    assert one["kind"] == "explainer"
    with pytest.raises(UnknownNameError, match="did you mean sigma-zero"):
        app(["show", "sigmazero"], standalone_mode=False)
