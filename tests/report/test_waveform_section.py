"""Results on the waveform: after the round trip, beside corruptions, and apart from features."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from sigma_ser.evaluate.rates import headline
from sigma_ser.report.cells import POOLED_COLUMNS, page_cells
from sigma_ser.report.inputs import ReportInputs
from sigma_ser.report.leaderboard import entries, read_entry, write_entries, write_leaderboard
from sigma_ser.report.page import render_page
from sigma_ser.report.side_by_side import side_by_side, write_comparison
from sigma_ser.report.waveform import waveform_cells, waveform_panels
from sigma_ser.statistics.proportion import wilson_interval

Rows = Callable[..., pl.DataFrame]
Inputs = Callable[..., ReportInputs]
SMALL: dict[str, Any] = {
    "utterances": 21, "victims": ("bilstm",), "sparsities": (0.01,), "epsilons": (1.0,),
}  # fmt: skip
RATIOS, SPARSITIES = (20.0, 40.0), (0.1, 1.0)


@pytest.fixture(scope="module")
def wave_rows(make_wave_rows: Rows) -> pl.DataFrame:
    return make_wave_rows(ratios=RATIOS, sparsities=SPARSITIES)


@pytest.fixture(scope="module")
def both(make_rows: Rows, wave_rows: pl.DataFrame) -> pl.DataFrame:
    return pl.concat([make_rows(**SMALL), wave_rows])


@pytest.fixture(scope="module")
def page(both: pl.DataFrame, make_inputs: Inputs) -> str:
    return render_page(make_inputs(headline(both), exemplars=()))


def section_of(page: str, name: str) -> str:
    (text,) = re.findall(rf'<section id="{name}">(.*?)</section>', page, re.DOTALL)
    return str(text)


def test_rates_are_those_of_the_files_beside_those_in_memory(wave_rows: pl.DataFrame) -> None:
    cells = waveform_cells(wave_rows)
    assert len(cells) == len(RATIOS) * (4 * len(SPARSITIES) + 1) + 1
    lost = 0
    for cell in cells:
        same = [pl.col(name).eq_missing(pl.lit(cell[name])) for name in POOLED_COLUMNS]
        rows = wave_rows.filter(pl.all_horizontal(same)).to_dicts()
        right = [row for row in rows if row["round_trip_correct"]]
        assert cell["utterances"] == len(right)
        for name, column in (("asr", "round_trip_success"), ("memory_asr", "success")):
            number = sum(row[column] for row in right)
            assert cell[name] == pytest.approx(number / len(right))
            low, high = wilson_interval(np.array([number]), np.array([len(right)]))
            assert cell[f"{name}_low"] == pytest.approx(low.item())
            assert cell[f"{name}_high"] == pytest.approx(high.item())
        assert cell["memory_asr"] >= cell["asr"]
        lost += cell["memory_asr"] > cell["asr"]
    assert lost > 2
    # The same after the rows were read for a report.
    assert waveform_cells(headline(wave_rows)) == cells


def test_the_section_shows_each_cell_once_and_controls_last(
    both: pl.DataFrame, wave_rows: pl.DataFrame, page: str
) -> None:
    (panel,) = waveform_panels(waveform_cells(both))
    assert panel.panel == "bilstm"
    kinds = [cell["kind"] for cell in panel.cells]
    assert kinds.count("corruption") == 3
    assert set(kinds[-3:]) == {"corruption"}
    assert panel.natural is not None
    assert panel.natural["budget_snr"] in (None, panel.best["budget_snr"])
    assert panel.best["kind"] not in ("control", "corruption")
    ratios = [cell["budget_snr"] for cell in panel.cells if cell["kind"] != "corruption"]
    assert ratios == sorted(ratios, reverse=True)
    assert [chart.title.replace("\u202f", " ") for chart in panel.charts] == [
        "bilstm, 10 % of the samples", "bilstm, 100 % of the samples",
    ]  # fmt: skip
    section = section_of(page, "waveform")
    rows = re.findall(r'<tr class="\w+"><th scope="row">.*?</tr>', section, re.DOTALL)
    assert len(rows) == len(panel.cells)
    for cell, row in zip(panel.cells, rows, strict=True):
        marked = re.findall(rf'value="([^"]*)" data-of="cell:{cell["cell"]}:(\w+)"', row)
        shown = {name: value for value, name in marked}
        for column in ("asr", "memory_asr", "utterances", "pesq"):
            assert float(shown[column]) == pytest.approx(cell[column]), column


def test_features_and_waveform_stay_apart_on_the_page(page: str, both: pl.DataFrame) -> None:
    strength = section_of(page, "strength")
    assert "white-noise" not in strength
    assert "dB" not in strength
    features = page_cells(both, "features")
    assert page.count('<li class="native">') >= features["kind"].eq("native").sum()
    # Each line of the table of all results is that of `cells.csv`.
    everything = page_cells(both)
    line = (
        r'<tr id="(c\d+)">\s*<th.*?</th>\s*<td class="text">[^<]*</td><td class="text">(.*?)</td>'
    )
    lines = dict(re.findall(line, page))
    assert set(lines) == set(everything["cell"])
    for cell, surface in everything.select("cell", "surface").iter_rows():
        assert lines[cell].endswith(" · waveform") == (surface == "waveform")
    links = set(re.findall(r'<a class="n" tabindex="-1" href="#(c\d+)">', page))
    assert links <= set(lines)


def test_a_run_on_the_waveform_alone_has_an_answer(
    wave_rows: pl.DataFrame, make_inputs: Inputs
) -> None:
    page = render_page(make_inputs(headline(wave_rows), exemplars=()))
    assert "Under the strongest attack on the waveform" in page
    assert "no attacked utterance" not in page
    assert 'href="#strength"' not in page
    assert " · waveform" not in page
    ids = set(re.findall(r'id="([\w-]+)"', page))
    links = {one for one in re.findall(r'href="#([\w-]+)"', page) if "rows-of" not in one}
    assert links <= ids
    for word in (">nan", ">None<", "Undefined", "inf%"):
        assert word not in page


def test_epsilon_on_the_waveform_is_a_share_of_full_scale(
    make_wave_rows: Rows, make_inputs: Inputs
) -> None:
    rows = make_wave_rows(ratios=(30.0,), sparsities=(0.1,)).with_columns(
        pl.lit(None, pl.Float64).alias("budget_snr"),
        pl.when(pl.col("granularity").is_not_null()).then(0.005).alias("epsilon"),
    )
    page = render_page(make_inputs(headline(rows), exemplars=())).replace("\u202f", " ")
    assert "10 % of the samples, each changed by at most 0.5 % of full scale" in page


def test_leaderboards_rank_surfaces_apart(
    both: pl.DataFrame, make_inputs: Inputs, tmp_path: Path
) -> None:
    found = entries(make_inputs(headline(both)))
    waves = [entry for entry in found if entry.surface == "waveform"]
    assert {(entry.sparsity, entry.budget_snr) for entry in waves} == {
        (sparsity, ratio) for sparsity in SPARSITIES for ratio in RATIOS
    }
    assert all(entry.epsilon is None and "white-noise" not in entry.attacks for entry in waves)
    paths = write_entries(tmp_path, make_inputs(headline(both)))
    assert len(set(paths)) == len(found)
    assert [read_entry(path) for path in paths] == found
    board = write_leaderboard(tmp_path).read_text("utf-8").replace("\u202f", " ")
    assert board.count("<h2>demo, unseen-voice, waveform</h2>") == 4
    assert "100 % of the samples, signal-to-noise ratio of at least 20 dB" in board


def test_comparisons_pair_results_of_one_surface(
    both: pl.DataFrame, make_rows: Rows, make_inputs: Inputs, tmp_path: Path
) -> None:
    runs = [
        ("features", make_inputs(make_rows(**SMALL))),
        ("both", make_inputs(headline(both))),
    ]
    table = side_by_side(runs)
    features = table.filter(pl.col("surface") == "features")
    assert features["2:difference"].to_list() == [0.0] * len(features)
    waves = table.filter(pl.col("surface") == "waveform")
    assert len(waves) == len(waveform_cells(both))
    assert waves["1:asr"].is_null().all()
    page = write_comparison(tmp_path, runs).read_text("utf-8")
    assert "40\u202fdB" in page
