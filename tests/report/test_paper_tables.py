"""Tables of a paper: every figure against the rows, marks, and the three forms."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest

from sigma_ser.core.errors import RunError
from sigma_ser.evaluate.claims import claims
from sigma_ser.report.alarms import alarm_paper_table
from sigma_ser.report.display_names import display_name
from sigma_ser.report.paper_table import PaperTable
from sigma_ser.report.paper_tables import paper_tables
from sigma_ser.report.typesetting import comma_separated, latex, markdown, write_paper_tables

Rows = Callable[..., pl.DataFrame]


@pytest.fixture(scope="module")
def rows(make_rows: Rows) -> pl.DataFrame:
    """Rows with masks of the other victim too."""
    own = make_rows(utterances=40, sparsities=(0.01, 0.02), epsilons=(0.5, 1.0))
    other = {"bilstm": "mean-pool", "mean-pool": "bilstm"}
    foreign = own.filter(pl.col("explainer") == "gradient").with_columns(
        pl.col("victim").replace_strict(other).alias("mask_source")
    )
    return pl.concat([own, foreign])


def of(rows: pl.DataFrame, name: str) -> PaperTable:
    (found,) = paper_tables(rows, [name])
    return found


@pytest.mark.parametrize("name", ["success", "consistency"])
def test_every_figure_is_that_of_the_rows(rows: pl.DataFrame, name: str) -> None:
    table = of(rows, name)
    sizes = {"k": 1, "8 k": 8, "free choice": None}
    seen = 0
    for line in table.lines:
        attack, explainer, mask = line.names
        explainer, _, owner = explainer.partition(" of ")
        for (group, heading), entry in zip(table.columns, line.entries, strict=True):
            epsilon = float(group.removeprefix("epsilon = "))
            sparsity = float(heading.removeprefix("k = ").removesuffix(" %")) / 100
            here = [
                row for row in rows.to_dicts()
                if row["correct_before"] and row["victim"] == line.section
                and display_name(row["attack"]) == attack
                and display_name(row["explainer"] or "–") == explainer
                and row["scope"] == sizes[mask]
                and (row["mask_source"] in (None, "own")) == (not owner)
                and abs(row["sparsity"] - sparsity) < 1e-9 and row["epsilon"] == epsilon
            ]  # fmt: skip
            values = [float(row["success" if name == "success" else "cosine"]) for row in here]
            assert entry.value == pytest.approx(sum(values) / len(values))
            seen += 1
    assert seen == rows.select("victim", "attack", "explainer", "scope", "mask_source", "sparsity",
                               "epsilon").n_unique()  # fmt: skip


def test_the_best_are_marked_with_ties_and_without_controls(rows: pl.DataFrame) -> None:
    table = of(rows, "consistency")
    for place in range(len(table.columns)):
        for section in {line.section for line in table.lines}:
            here = [line for line in table.lines if line.section == section]
            rivals = [line for line in here if "Random" not in line.names]
            top = max(line.entries[place].value or 0.0 for line in rivals)
            for line in here:
                best = line in rivals and line.entries[place].value == top
                assert line.entries[place].best == best


def test_transfer_has_the_free_choice_as_reference(rows: pl.DataFrame) -> None:
    table = of(rows, "transfer")
    sections = {line.section for line in table.lines}
    assert sections == {"Dual averaging in Gradient, 8 k"}
    assert [line.names[0] for line in table.lines] == ["bilstm", "mean-pool", "free choice"]
    assert not any(entry.best for entry in table.lines[-1].entries)


def test_cost_is_that_of_the_passes(rows: pl.DataFrame) -> None:
    table = of(rows, "cost")
    (line, _) = table.lines
    correct = rows.filter(
        "correct_before", pl.col("sparsity") == 0.02, pl.col("epsilon") == 1.0,
        pl.col("explainer") == "gradient",
    )  # fmt: skip
    source = pl.when(pl.col("mask_source") == "own").then("victim").otherwise("mask_source")
    here = correct.filter(source == "mean-pool").group_by("victim").agg(
        (pl.col("forwards") + pl.col("backwards")).mean().alias("passes")
    )  # fmt: skip
    inside = dict(zip((heading for _, heading in table.columns), line.entries, strict=True))
    assert line.names == ("Gradient", "mean-pool", "8 k")
    assert inside["Uses"].value == 2
    assert inside["attacks in the mask"].value == pytest.approx(here["passes"].sum())


def test_the_csv_has_every_figure_unrounded(rows: pl.DataFrame) -> None:
    table = of(rows, "success")
    lines = list(csv.DictReader(io.StringIO(comma_separated(table))))
    values = [entry.value for line in table.lines for entry in line.entries]
    assert [float(line["value"]) for line in lines] == values


def test_markdown_and_latex_have_the_same_figures(rows: pl.DataFrame) -> None:
    table = of(rows, "success")
    figure = re.compile(r"(\d+\.\d)[}& ]+(\[\d+, \d+\])")
    assert figure.findall(markdown(table).replace("**", "")) == figure.findall(latex(table)) != []
    bold = sum(entry.best for line in table.lines for entry in line.entries)
    assert bold == latex(table).count(r"\textbf{") == markdown(table).count("**") // 2 > 0


def test_latex_is_balanced_and_escaped(rows: pl.DataFrame) -> None:
    hostile = rows.with_columns(pl.lit("50 %_#$&{}~^\\").alias("victim"))
    text = latex(of(hostile, "success"))
    assert text.count(r"\begin{") == text.count(r"\end{") == 2
    columns = re.search(r"\\begin\{tabular\}\{((?:[lr]|@\{~\})+)\}", text)
    assert columns is not None
    count = len(columns[1].replace("@{~}", ""))
    for line in text.splitlines():
        if line.endswith(r"\\") and r"\multicolumn" not in line:
            assert len(re.findall(r"(?<!\\)&", line)) == count - 1
    assert r"50 \%\_\#\$\&\{\}" in text
    assert text.isascii()


def test_figures_with_intervals_take_two_columns(rows: pl.DataFrame) -> None:
    text = latex(of(rows, "success"))
    assert "{lll" + 4 * "r@{~}l" + "}" in text
    assert r"\multicolumn{4}{c}{$\varepsilon$ = 0.5}" in text
    assert r"\cmidrule(lr){4-7} \cmidrule(lr){8-11}" in text
    assert r"& 8 $k$ &" in text


def test_attacks_of_one_name_show_the_settings_in_which_they_differ(rows: pl.DataFrame) -> None:
    attack = rows["attack"][0]
    here = rows.filter(attack=attack)
    both = pl.concat([
        here.with_columns(attack=pl.lit("sigma-lambda"), attack_settings=pl.lit(settings))
        for settings in ("SigmaLambda(weight=0.0, steps=40)", "SigmaLambda(weight=3.0, steps=40)")
    ])  # fmt: skip
    table = of(pl.concat([rows, both]), "success")
    names = {line.names[0] for line in table.lines}
    assert {"SIGMA-λ (weight 0)", "SIGMA-λ (weight 3)"} <= names
    assert r"SIGMA-$\lambda$ (weight 3)" in latex(table)
    assert latex(table).isascii()


def test_files_and_preview(rows: pl.DataFrame, tmp_path: Path) -> None:
    paths = write_paper_tables(tmp_path, paper_tables(rows))
    assert len(paths) == 5 * 3 + 1
    preview = (tmp_path / "preview.tex").read_text()
    for name in ("success", "consistency", "transfer", "cost", "claims"):
        assert rf"\input{{{name}.tex}}" in preview


def test_claims_stand_with_criterion_result_and_interval(rows: pl.DataFrame) -> None:
    table = of(rows, "claims")
    expected = claims(rows).to_dicts()
    assert [line.names[0] for line in table.lines] == [one["claim"] for one in expected]
    for line, one in zip(table.lines, expected, strict=True):
        assert line.names[2].startswith(one["verdict"])
        assert line.entries[0].value == one["figure"]
    assert re.search(r"\d\.\d{3} \[−?\d\.\d{3}, −?\d\.\d{3}\]", markdown(table))
    # Sentences are broken into lines, which needs columns of a given width.
    assert latex(table).count(r"\textwidth}") == 3


def test_budgets_as_ratios_have_their_own_columns(rows: pl.DataFrame) -> None:
    surface = rows.filter(pl.col("epsilon") == 1.0).with_columns(
        pl.lit("waveform").alias("surface"),
        pl.lit(None, pl.Float64).alias("epsilon"),
        pl.lit(30.0).alias("budget_snr"),
        pl.lit(True).alias("round_trip_correct"),
        pl.col("success").alias("round_trip_success"),
    )
    features = rows.with_columns(pl.lit("features").alias("surface"))
    both = of(pl.concat([features, surface]), "success")
    assert ("SNR = 30 dB", "k = 2 %") in both.columns
    assert {line.section for line in both.lines} == {
        f"{victim} · {surface}"
        for victim in ("bilstm", "mean-pool") for surface in ("features", "waveform")
    }  # fmt: skip


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"names": ["sucess"]}, "sucess"),
        ({"metric": "cosin"}, "cosin"),
        ({"budget": (0.5, 1.0)}, "sparsity 0.5"),
    ],
)
def test_wrong_wishes_are_named(rows: pl.DataFrame, change: dict[str, object], word: str) -> None:
    with pytest.raises(RunError, match=word):
        paper_tables(rows, **change)  # type: ignore[arg-type]


def test_an_attack_that_knows_an_alarm_has_a_line_for_each_alarm() -> None:
    same = {
        "corpus": "c", "protocol": "p", "encoder": "e", "layer": "1", "surface": "features",
        "granularity": "element", "victim": "mlp", "victim_seed": 0, "attack_seed": 0,
        "sparsity": 0.01, "epsilon": 1.0, "alarm_explainer": "gradient", "fitted_on": "pgd",
        "explainer": None, "mask_source": None, "scope": None, "clean": 30, "utterances": 20,
        "auroc_low": 0.1, "auroc_high": 0.9, "rate_low": 0.1, "rate_high": 0.9,
    }  # fmt: skip
    found = pl.DataFrame([
        {**same, "alarm": alarm, "attack": attack, "attack_settings": attack, "asr": success,
         "auroc": 0.5 + success / 10, "rate": success}
        for attack in ("pgd", "alarm-evasion")
        for alarm, success in (("map", 0.2), ("margin", 0.4), ("all", 0.3))
    ])  # fmt: skip
    table = alarm_paper_table(found, (0.01, 1.0))
    assert table is not None
    plain, *knowing = table.lines
    assert plain.names == ("PGD",)
    assert [entry.value for entry in plain.entries] == [0.2, 0.52, 0.2, 0.54, 0.4, 0.53, 0.3]
    names = [line.names[0].removeprefix("Attack that knows the alarm on ") for line in knowing]
    assert names == ["map", "margin", "map and margin"]
    for place, (line, success) in enumerate(zip(knowing, (0.2, 0.4, 0.3), strict=True)):
        values = [entry.value for entry in line.entries]
        assert values[0] == success
        assert values[2 + 2 * place] == success
        assert values.count(None) == 4
