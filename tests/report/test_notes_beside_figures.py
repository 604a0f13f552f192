"""Degenerate measurements are named beside each figure, and axes show possible values alone."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from sigma_ser.evaluate.notes import CODES, NoteIndex, degenerate
from sigma_ser.report.cells import budgets_of, page_cells
from sigma_ser.report.charts import METRICS, fronts, over_budget, scope_curves
from sigma_ser.report.figures import front, over_sparsity, strength, write_figures
from sigma_ser.report.inputs import ReportInputs
from sigma_ser.report.leaderboard import entries, read_entry, write_entries, write_leaderboard
from sigma_ser.report.page import render_page
from sigma_ser.report.replays import replay_matrices
from sigma_ser.report.side_by_side import side_by_side, write_comparison
from sigma_ser.report.svg import nice_ticks
from sigma_ser.report.writer import write_report

Rows = Callable[..., pl.DataFrame]
Inputs = Callable[..., ReportInputs]
Run = Callable[[Path, ReportInputs], Path]
ATTACKS = (("pgd", None, None, 1.0, 0.1),)
MEASURES = ("topk_intersection", "spearman", "cosine")


def constant(rows: pl.DataFrame, victim: str) -> pl.DataFrame:
    """The same rows, where the explanations of a victim never change."""
    here = pl.col("victim") == victim
    return rows.with_columns(
        pl.when(here).then(1.0).otherwise(pl.col(name)).alias(name)
        for measure in MEASURES
        for name in (measure, f"{measure}_own", f"{measure}_floor")
    ).with_columns(pl.lit("gradient").alias("consistency_explainer"))


def section(page: str, name: str) -> str:
    found = re.search(rf'<section id="{name}">.*?</section>', page, re.DOTALL)
    assert found is not None, name
    return found.group()


def test_notes_stand_beside_each_figure_of_a_report(
    make_rows: Rows, make_inputs: Inputs, make_run: Run, tmp_path: Path
) -> None:
    rows = constant(make_rows(), "mean-pool")
    inputs = make_inputs(rows)
    confusion = [[0, 9], [9, 0]]
    chance = {"uar": 0.0, "uar_low": 0.0, "uar_high": 0.1, "confusion": confusion}
    victims = [{**one, **(chance if one["name"] == "bilstm" else {})} for one in inputs.victims]
    page = write_report(make_run(tmp_path, make_inputs(rows, victims=victims))).read_text("utf-8")
    notes = pl.read_csv(tmp_path / "analysis" / "notes.csv")
    assert {"constant-explainer", "at-chance"} <= set(notes["code"])
    lead = re.search(r'<section class="lead">.*?</section>', page, re.DOTALL)
    assert lead is not None
    for text in notes.filter(pl.col("code").is_in(["constant-explainer", "at-chance"]))["text"]:
        assert text in lead.group()
    assert CODES["at-chance"] in section(page, "strength")
    assert CODES["at-chance"] in section(page, "budget")
    assert CODES["constant-explainer"] in section(page, "explanations")
    assert CODES["constant-explainer"] not in section(page, "strength")
    assert CODES["at-chance"] in section(page, "setting")
    for name in ("at-chance", "constant-explainer"):
        assert CODES[name] in section(page, "cells")
    cells = pl.read_csv(tmp_path / "tables" / "cells.csv")
    named = dict(cells.group_by("victim").agg(pl.col("notes").str.split(" ").list.first()).rows())
    assert set(named["mean-pool"]) == {"constant-explainer"}
    assert set(named["bilstm"]) == {"at-chance"}
    for name in ("results.md", "results.tex"):
        assert "constant-explainer" in (tmp_path / "tables" / name).read_text("utf-8")
    drawn = (tmp_path / "figures" / "strength.svg").read_text("utf-8")
    assert CODES["at-chance"] in drawn
    assert CODES["constant-explainer"] in (tmp_path / "figures" / "front.svg").read_text("utf-8")


def test_a_run_without_degenerate_measurements_has_no_section(
    make_rows: Rows, make_inputs: Inputs
) -> None:
    # A real change of every explanation, at one budget that some attacks succeed at.
    rows = make_rows(sparsities=(0.01,), epsilons=(1.0,)).with_columns(
        (pl.col(name) - 0.5).alias(name) for name in MEASURES
    )
    assert NoteIndex(degenerate(rows)).lines == []
    page = render_page(make_inputs(rows))
    assert 'href="#notes"' not in page
    assert 'id="notes"' not in page


@pytest.mark.parametrize("metric", METRICS, ids=lambda metric: metric.name)
def test_axes_of_consistency_show_possible_values_alone(metric: object, make_rows: Rows) -> None:
    rng = np.random.default_rng(0)
    low, high = metric.limits  # type: ignore[attr-defined]
    name = metric.name  # type: ignore[attr-defined]
    top = min(high, 3.0)
    rows = make_rows(utterances=7, victims=("v",), sparsities=(0.01,), epsilons=(1.0,))
    ranges = [(top, top), (low, low), (top - 0.01, top), (low, top), (low, low + 0.03)]
    for a, b in ranges:
        values = pl.Series(rng.uniform(a, b, len(rows)) if a < b else np.full(len(rows), a))
        cells = page_cells(rows.with_columns(values.alias(name))).to_dicts()
        (chart,) = fronts(cells, metric)  # type: ignore[arg-type]
        ticks = re.findall(r'text-anchor="end">([^<]*)<', chart.svg)
        percent = 100 if name == "topk_intersection" else 1
        assert all(low * percent <= float(tick) <= high * percent for tick in ticks), ticks
        if name in MEASURES:
            axis = front(cells, name).axes[0]
            assert low <= axis.get_ylim()[0] < axis.get_ylim()[1] <= high
            assert axis.get_xlim() == (0, 100)


def test_ticks_of_equal_values_cover_them() -> None:
    for value in (-1.0, -0.3, 0.0, 0.999, 1.0):
        ticks = nice_ticks(value, value, within=(-1.0, 1.0))
        assert -1 <= ticks[0] <= value <= ticks[-1] <= 1
        assert len(ticks) > 2


def test_axes_of_rates_and_budgets_show_possible_values_alone(make_rows: Rows) -> None:
    rows = make_rows(utterances=7, victims=("v",), sparsities=(0.1, 1.0), epsilons=(1.0,))
    frame = page_cells(rows)
    cells = frame.to_dicts()
    assert strength(cells, (0.1, 1.0)).axes[0].get_xlim() == (0, 100)
    axis = over_sparsity(cells, budgets_of(frame)).axes[0]
    assert axis.get_ylim() == (0, 100)
    assert axis.get_xlim()[1] <= 100
    # A marker at the largest sparsity lies at the right end of the axis, which is 414 wide.
    (chart,) = over_budget(cells, budgets_of(frame))
    assert (
        max(float(x) for x in re.findall(r'class="interval [^"]*" x1="([\d.]+)"', chart.svg)) == 414
    )
    assert scope_curves(cells) == []


def test_small_figures_have_room_for_many_notes(make_rows: Rows, tmp_path: Path) -> None:
    """Matplotlib warns where a title leaves no room for the axes; warnings are errors here."""
    rows = constant(make_rows(utterances=9, victims=("v",), attacks=ATTACKS, strength=0.0), "v")
    rows = rows.with_columns(pl.lit(math.nan).alias("cosine"))
    victim = {"name": "v", "fold": "f", "uar": 0.1, "uar_low": 0.0, "uar_high": 0.2}
    notes = NoteIndex(degenerate(rows, [{**victim, "confusion": [[0, 9], [9, 0]]}]))
    assert len({note["code"] for note in notes.lines}) == 5
    cells = page_cells(rows)
    write_figures(tmp_path, cells, budgets_of(cells), notes)
    assert CODES["too-few"] in (tmp_path / "strength.svg").read_text("utf-8")


def at_chance_and_masked(make_rows: Rows, make_inputs: Inputs) -> ReportInputs:
    """A run whose victim `bilstm` is at chance, and whose victim `mean-pool` has a sign."""
    rows = make_rows(attacks=ATTACKS, sparsities=(0.01,), epsilons=(1.0,))
    chance = {"uar": 0.0, "uar_low": 0.0, "uar_high": 0.1, "confusion": [[0, 9], [9, 0]]}
    masked = {"gradient_check": {"masked": True, "signs": ["zero-gradient"]}}
    victims = [
        {**one, **(chance if one["name"] == "bilstm" else masked)}
        for one in make_inputs(rows).victims
    ]
    return make_inputs(rows, victims=victims)


def test_a_leaderboard_names_what_limits_its_figures_and_ranks_masked_victims_last(
    make_rows: Rows, make_inputs: Inputs, tmp_path: Path
) -> None:
    """Past fault: a victim with masked gradients was the first of the leaderboard."""
    inputs = at_chance_and_masked(make_rows, make_inputs)
    found = {entry.victim: [note["code"] for note in entry.notes] for entry in entries(inputs)}
    assert found["mean-pool"][0] == "masked-gradients"
    assert "at-chance" in found["bilstm"]
    paths = write_entries(tmp_path, inputs)
    for path in paths:
        entry = read_entry(path)
        share = 0.9 if entry.victim == "mean-pool" else 0.1
        fields = json.loads(path.read_text("utf-8"))
        fields["evaluated"]["robust_accuracy"] = share
        path.write_text(json.dumps(fields), "utf-8")
    page = write_leaderboard(tmp_path).read_text("utf-8")
    body = page[page.index("<tbody>") :]
    assert body.index(">bilstm <") < body.index(">mean-pool <")
    assert CODES["at-chance"] in body
    assert "masked gradients" in body
    # Entries of earlier versions have no notes.
    del fields["notes"]
    path.write_text(json.dumps(fields), "utf-8")
    assert read_entry(path).notes == ()


def test_a_comparison_of_runs_has_the_notes_of_each(
    make_rows: Rows, make_inputs: Inputs, tmp_path: Path
) -> None:
    noted = at_chance_and_masked(make_rows, make_inputs)
    plain = make_inputs(noted.rows)
    table = side_by_side([("a", noted), ("b", plain)])
    notes = {line["panel"]: line for line in table.to_dicts()}
    for victim, code in (("mean-pool", "masked-gradients"), ("bilstm", "at-chance")):
        assert code in notes[victim]["1:notes"].split()
        assert code not in notes[victim]["2:notes"].split()
    page = write_comparison(tmp_path, [("a", noted), ("b", plain)]).read_text("utf-8")
    assert page.count(CODES["at-chance"]) == 1
    assert page.count("masked gradients") == 1


def test_replays_name_a_source_or_target_at_chance(make_rows: Rows, make_inputs: Inputs) -> None:
    inputs = at_chance_and_masked(make_rows, make_inputs)
    here = pl.col("victim") == "mean-pool"
    replays = inputs.rows.filter(here).with_columns(
        pl.lit("bilstm").alias("target_victim"),
        pl.col("correct_before").alias("source_correct"),
        pl.col("success").alias("source_success"),
    )
    (matrix,) = replay_matrices(replays, (0.01, 1.0), inputs.notes)
    assert [note["code"] for note in matrix.notes["bilstm"]] == ["at-chance"]
    assert matrix.notes["mean-pool"] == []
    # Columns in the order of the rows: the sources are on the diagonal.
    assert matrix.victims == ("mean-pool", "bilstm")
    page = section(render_page(make_inputs(inputs.rows, victims=inputs.victims, replays=replays)),
                   "replays")  # fmt: skip
    assert page.count(CODES["at-chance"]) == 1
