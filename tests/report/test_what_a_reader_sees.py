"""The page for an outside reader: names, order of methods, axes, marks, paths, figures on top."""

from __future__ import annotations

import base64
import json
import math
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from safetensors.numpy import save_file

from sigma_ser.core.errors import RunError
from sigma_ser.core.rows import schema
from sigma_ser.report.cells import page_cells
from sigma_ser.report.changes import kept_changes, packed
from sigma_ser.report.charts import METRICS, fronts, scope_curves
from sigma_ser.report.headline import heading
from sigma_ser.report.inputs import ReportInputs
from sigma_ser.report.page import render_page
from sigma_ser.report.readable import fact, victim_names, without_paths
from sigma_ser.report.run_figures import run_figures
from sigma_ser.report.run_index import index_runs, write_index
from sigma_ser.report.setting_words import differing_settings, setting_words
from sigma_ser.runs.digests import Digests
from sigma_ser.runs.layout import RunLayout

Rows = Callable[..., pl.DataFrame]
Inputs = Callable[..., ReportInputs]
FEW = (("pgd", None, None, 1.0, 0.4), ("pgd", "integrated-gradients", 1, 0.6, 0.3))
SMALL = {"utterances": 21, "sparsities": (0.02,), "epsilons": (1.0,)}


@pytest.fixture(scope="module")
def page(make_rows: Rows, make_inputs: Inputs) -> str:
    return render_page(make_inputs(make_rows(**SMALL), exemplars=()))


def section(page: str, name: str) -> str:
    found = re.search(rf'<section id="{name}">.*?</section>', page, re.DOTALL)
    assert found is not None, name
    return found.group()


def test_names_lose_their_keys_and_stay_different() -> None:
    keyed = ["mlp-a-0-1fcb7092", "mlp-b-0-43f85b2d", "cnn"]
    assert victim_names(keyed) == {
        "cnn": "cnn", "mlp-a-0-1fcb7092": "mlp-a-0", "mlp-b-0-43f85b2d": "mlp-b-0",
    }  # fmt: skip
    twice = ["mlp-a-0-1fcb7092", "mlp-a-0-43f85b2d"]
    assert victim_names(twice) == {name: name for name in twice}
    # A word of eight letters from a to f is no key.
    assert victim_names(["mlp-deadbeef"]) == {"mlp-deadbeef": "mlp-deadbeef"}


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ('root = "/home/me/my corpora/tess"', 'root = "…/tess"'),
        ("root = 'C:\\Users\\me\\tess'", "root = '…/tess'"),
        ("see /home/me/x/list.csv, line 3", "see …/list.csv, line 3"),
        ('store = "~/runs/features"', 'store = "…/features"'),
        ("file:///home/me/model.pt", "…/model.pt"),
        ("https://example.org/a/b and 1/2 of a/b/c", "https://example.org/a/b and 1/2 of a/b/c"),
        ("facebook/wav2vec2-base", "facebook/wav2vec2-base"),
    ],
)
def test_absolute_paths_are_reduced_to_their_last_part(text: str, shown: str) -> None:
    assert without_paths(text) == shown


def test_a_page_shows_no_folder_of_this_machine_and_no_key(
    make_rows: Rows, make_inputs: Inputs
) -> None:
    key = "bilstm-speakers-0-1fcb7092"
    rows = make_rows(**SMALL, victims=(key,), attacks=FEW).with_columns(
        pl.lit("/srv/secret/encoders/large").alias("encoder"),
        pl.lit("own(source='/srv/secret/map.pt')").alias("attack_settings"),
    )
    inputs = make_inputs(
        rows,
        corpus_card={
            "name": "mine",
            "root": "/srv/secret/my recordings",
            "more": ["/srv/secret/x"],
        },
        encoder_card={"name": "/srv/secret/encoders/large"},
        environment={"folder": "/srv/secret/environment"},
        study_text='[corpus]\nroot = "/srv/secret/my recordings"\n',
        exemplars=(),
    )
    page = render_page(inputs)
    assert "secret" not in page
    assert key not in page
    assert "bilstm-speakers-0" in page
    assert "…/my recordings" in page
    # Files keep the names.
    assert key in inputs.rows["victim"].to_list()


def test_the_title_is_that_of_the_study_or_names_models_and_corpus(
    make_rows: Rows, make_inputs: Inputs
) -> None:
    inputs = make_inputs(make_rows(**SMALL, victims=("bilstm",), attacks=FEW))
    assert heading(inputs, ["bilstm", "bilstm"]) == "Attacks on bilstm, tested on demo"
    assert heading(inputs, ["a", "b", "c"]) == "Attacks on a, b and c, tested on demo"
    assert heading(inputs, ["a", "b", "c", "d"]) == "Attacks on 4 models, tested on demo"
    assert heading(replace(inputs, title="Which explanations help?"), ["a"]) == (
        "Which explanations help?"
    )


def test_the_head_of_the_page_has_the_figures_of_every_model(page: str) -> None:
    lead = page[page.index('<section class="lead">') : page.index("Each model in words")]
    chart = lead[lead.index('<figure class="card headline">') :]
    assert re.findall(r'<span class="who">(.*?)</span>', chart) != []
    for name in ("bilstm", "mean-pool"):
        assert name in re.findall(r"<strong>([\w-]+)</strong> misclassifies", lead)
        assert f'<span class="who">{name}</span>' in chart
    # Every mark of the chart is in its legend.
    legend, marks = chart.split('<ol class="dots">')
    assert set(re.findall(r'class="mark (\w+)"', marks)) == set(
        re.findall(r'class="mark (\w+)"', legend)
    )


def test_all_models_list_the_methods_in_one_order(page: str) -> None:
    for name, item in (
        ("strength", r'<span class="who">(.*?)</span>'),
        ("cost", r'<span class="who">(.*?)(?: <small>|</span>)'),
        ("places", r'<tr><th scope="row">(.*?)</th>'),
    ):
        first, second = section(page, name).split("<h3>" if name != "places" else "<caption>")[1:3]
        assert re.findall(item, first) == re.findall(item, second) != [], name


def test_marks_agree_with_the_legend(page: str) -> None:
    strength = section(page, "strength")
    legend, marks = strength.split('<div class="panels">')
    shape = r'class="mark (\w+)" d="([^"]+)"'
    assert set(re.findall(shape, marks)) == set(re.findall(shape, legend))


def test_marks_along_a_line_are_those_of_their_cells(make_rows: Rows) -> None:
    attacks = [("pgd", "gradient", scope, 1.0, 0.3) for scope in (1, 8)]
    (chart,) = scope_curves(
        page_cells(make_rows(**SMALL, victims=("v",), attacks=attacks)).to_dicts()
    )
    assert re.findall(r'class="mark (\w+)"', chart.svg) == ["mask", "scope"]
    assert chart.names == (("scope", "gradient"),)


def test_charts_of_all_models_have_equal_axes(make_rows: Rows) -> None:
    rows = make_rows(**SMALL).with_columns(
        pl.when(pl.col("victim") == "bilstm").then("spearman").otherwise(0.9).alias("spearman")
    )
    metric = next(one for one in METRICS if one.name == "spearman")
    charts = fronts(page_cells(rows).to_dicts(), metric)
    ticks = [re.findall(r'text-anchor="end">([^<]*)<', chart.svg) for chart in charts]
    assert len(ticks) == 2
    assert ticks[0] == ticks[1]


def test_numbers_are_out_of_the_tab_order_and_the_skip_link_leads_to_the_results(page: str) -> None:
    assert '<a class="skip" href="#main">' in page
    assert '<main id="main" tabindex="-1">' in page
    links = re.findall(r'<a class="n"[^>]*>', page)
    assert links
    assert all('tabindex="-1"' in link for link in links)


def test_a_run_in_which_no_mask_pays_has_no_column_for_it(
    make_rows: Rows, make_inputs: Inputs
) -> None:
    rows = make_rows(**SMALL, victims=("v",), attacks=FEW)
    native = pl.col("explainer").is_null()
    dear = rows.with_columns(
        pl.when(native).then(1).otherwise(pl.col("forwards") + 30).alias("forwards")
    )
    text = section(render_page(make_inputs(dear, exemplars=())), "cost")
    assert "break-even" not in text
    assert "never" not in text
    assert "no number of uses" in text
    cheap = rows.with_columns(
        pl.when(native).then(pl.col("forwards") + 90).otherwise(1).alias("forwards")
    )
    text = section(render_page(make_inputs(cheap, exemplars=())), "cost")
    assert "break-even: <data" in text


def test_attacks_that_differ_in_settings_are_named_by_what_differs(make_rows: Rows) -> None:
    rows = make_rows(**SMALL, victims=("v",))
    more = rows.filter(pl.col("attack") == "reselect").with_columns(
        pl.lit("reselect(steps=40, restarts=2)").alias("attack_settings")
    )
    rows = rows.with_columns(
        pl.col("attack_settings").str.replace("steps=20", "steps=20, restarts=2")
    )
    names = set(page_cells(pl.concat([rows, more]))["method"])
    assert {"reselect (steps 20)", "reselect (steps 40)", "oneshot"} <= names
    assert setting_words("no call at all") == ""
    assert setting_words("A(x=1, y=None, z=0.5)", ["z", "y"]) == "y None, z 0.5"
    assert differing_settings(["A(x=1)", "A(x=1, y=2)"]) == ["y"]


def test_facts_are_words() -> None:
    assert fact(True) == "yes"
    assert fact({"normalise": False, "rate": None}) == "normalise: no, rate: none"
    assert fact(["a", 2]) == "a, 2"
    assert (
        fact("f69da86177cc635fe026f08d2801de71acf144153ca2db75a4179020ff366ebc") == "f69da86177cc…"
    )


def test_places_are_packed_as_gaps() -> None:
    places = np.unique(np.random.default_rng(0).integers(0, 100_000, 300))
    found, gap, shift = [-1], 0, 0
    for byte in base64.b64decode(packed(places)):
        gap += (byte & 127) << shift
        shift += 7
        if byte < 128:
            found.append(found[-1] + gap + 1)
            gap = shift = 0
    assert found[1:] == places.tolist()


def test_kept_perturbations_give_the_places_of_an_even_sample(
    make_rows: Rows, tmp_path: Path
) -> None:
    rows = make_rows(**SMALL, victims=("v",), attacks=[("pgd", "gradient", 1, 1.0, 0.3)])
    frames, channels, number = 50, 16, 4
    rows = rows.with_columns(
        pl.lit(number, pl.Int64).alias("l0"), pl.lit(number / frames / channels).alias("l0_share")
    ).select(schema().names)
    layout = RunLayout(tmp_path)
    part = layout.attack("cell", 0)
    part.parent.mkdir(parents=True)
    rows.write_parquet(part)
    places = np.array([3, 17, 400, 799], np.int32)
    save_file(
        {f"{name}/places": places for name in rows["utterance"]}, layout.perturbations("cell", 0)
    )
    found = kept_changes(layout, Digests(layout), channels)
    assert found is not None
    assert found["utterance"].to_list() == rows["utterance"].to_list()
    assert set(found.select("frames", "channels", "places").rows()) == {
        (frames, channels, packed(places))
    }
    few = kept_changes(layout, Digests(layout), channels, most=7 * number * 2)
    assert few is not None
    assert few["utterance"].to_list() == rows["utterance"].to_list()[::3]
    assert kept_changes(layout, Digests(layout), None) is None


def test_an_index_lists_runs_with_figures_and_those_that_cannot_be_read(
    make_rows: Rows, make_inputs: Inputs, make_run: Callable[..., Path], tmp_path: Path
) -> None:
    inputs = make_inputs(make_rows(**SMALL, attacks=FEW), exemplars=())
    make_run(tmp_path / "group" / "good", inputs)
    RunLayout(tmp_path / "group" / "good").page.parent.mkdir()
    RunLayout(tmp_path / "group" / "good").page.write_text("page", "utf-8")
    make_run(tmp_path / "damaged", inputs)
    RunLayout(tmp_path / "damaged").rows.write_bytes(b"no table")
    (tmp_path / "other").mkdir()
    path, lines = write_index(tmp_path)
    assert path == tmp_path / "runs.html"
    good, bad = sorted(lines, key=lambda line: line["folder"], reverse=True)
    assert good["folder"] == "group/good"
    assert good["page"] == "group/good/report/index.html"
    assert {one["victim"] for one in good["models"]} == {"bilstm", "mean-pool"}
    best = run_figures(inputs)["models"][0]
    assert (
        good["models"][0]["asr"]
        == best["asr"]
        == pytest.approx(best["flipped"] / best["utterances"])
    )
    assert bad["models"] == []
    assert "rows.parquet" in bad["problem"]
    text = path.read_text("utf-8")
    assert 'href="group/good/report/index.html"' in text
    assert str(tmp_path) not in text
    with pytest.raises(RunError, match="contains no run"):
        index_runs(tmp_path / "other")


def test_figures_of_a_run_are_json_without_nan(make_rows: Rows, make_inputs: Inputs) -> None:
    rows = make_rows(**SMALL, attacks=FEW).with_columns(pl.lit(math.nan).alias("cosine"))
    figures = run_figures(make_inputs(rows, exemplars=()))
    assert json.loads(json.dumps(figures, allow_nan=False)) == figures
    assert len(figures["attacks"]) == len(page_cells(rows))
    assert all(one["asr"] is None or 0 <= one["asr"] <= 1 for one in figures["attacks"])
