"""Compare, leaderboard and the report written again: from folders of runs, through the commands."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from sigma_ser.cli.compare import compare
from sigma_ser.cli.leaderboard import leaderboard
from sigma_ser.cli.report import report
from sigma_ser.cli.view import view
from sigma_ser.core.errors import RunError
from sigma_ser.report.inputs import ReportInputs, load_inputs
from sigma_ser.report.leaderboard import entries, read_entry, write_entries, write_leaderboard
from sigma_ser.report.side_by_side import side_by_side

FEW = (
    ("dual-averaging", None, None, 1.0, 0.4),
    ("dual-averaging", "gradient", 8, 0.8, 0.3),
)
SMALL: dict[str, Any] = {
    "attacks": FEW,
    "victims": ("bilstm",),
    "sparsities": (0.02,),
    "epsilons": (1.0,),
    "utterances": 30,
}
Rows = Callable[..., pl.DataFrame]
Inputs = Callable[..., ReportInputs]
Run = Callable[[Path, ReportInputs], Path]


@pytest.fixture
def two_runs(tmp_path: Path, make_rows: Rows, make_inputs: Inputs, make_run: Run) -> list[Path]:
    return [
        make_run(
            tmp_path / name,
            make_inputs(make_rows(**SMALL, strength=strength, seed=seed), name=name, exemplars=()),
        )
        for name, strength, seed in (("weak", 0.4, 1), ("strong", 2.0, 2))
    ]


@pytest.mark.slow
def test_a_finished_run_is_reported_again(
    tmp_path: Path,
    make_rows: Rows,
    make_inputs: Inputs,
    make_run: Run,
    make_exemplar: Callable[..., Any],
) -> None:
    shown = {"explainer": "gradient", "sparsity": 0.02, "epsilon": 1.0}
    stale = {**shown, "sparsity": 0.5}
    inputs = make_inputs(
        make_rows(**SMALL),
        exemplars=[make_exemplar(**shown), make_exemplar(**stale)],
        environment={"folder": tmp_path},
    )
    folder = make_run(tmp_path / "run", inputs)
    again = load_inputs(folder)
    assert [one.sparsity for one in again.exemplars] == [0.02], "rows decide what is shown"
    assert again.victims == list(inputs.victims)
    assert again.environment == {"folder": str(tmp_path)}
    page = folder / "report" / "index.html"
    assert not page.exists()
    report(folder, audio=False)
    assert "data:audio" not in page.read_text("utf-8")


def test_a_folder_without_a_run_is_named(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="not the folder of a finished run"):
        load_inputs(tmp_path)


def test_runs_stand_side_by_side(two_runs: list[Path], tmp_path: Path) -> None:
    compare(two_runs, tmp_path / "comparison")
    table = pl.read_csv(tmp_path / "comparison" / "comparison.csv")
    assert len(table) == len(FEW)
    for number, folder in enumerate(two_runs, start=1):
        rows = pl.read_parquet(folder / "rows.parquet").filter(pl.col("correct_before"))
        native = rows.filter(pl.col("explainer").is_null())["success"].mean()
        line = table.filter(pl.col("method") == "dual-averaging")
        assert line[f"{number}:asr"][0] == pytest.approx(native)
    assert (table["2:difference"] - (table["2:asr"] - table["1:asr"])).abs().max() < 1e-12
    assert table["2:difference"].min() > 0, "the strong run is stronger"
    page = (tmp_path / "comparison" / "index.html").read_text("utf-8")
    assert "weak" in page
    assert "http" not in page.replace("http-equiv", "")


def strict_json(text: str) -> Any:
    """Parse JSON; NaN and infinity, which JSON does not have, are errors."""

    def refuse(constant: str) -> Any:
        raise ValueError(constant)

    return json.loads(text, parse_constant=refuse)


@pytest.mark.slow
def test_commands_print_their_figures_as_json(
    two_runs: list[Path], tmp_path: Path, short_runs: None, capsys: pytest.CaptureFixture[str]
) -> None:
    rates = {}
    for folder in two_runs:
        report(folder, audio=False, entries=tmp_path / "board", as_json=True)
        figures = strict_json(capsys.readouterr().out)
        assert Path(figures["page"]).is_file()
        assert all(Path(path).is_file() for path in figures["entries"])
        (model,) = figures["models"]
        rates[folder.name] = model["asr"]
        assert model["asr"] == model["flipped"] / model["utterances"]
    assert rates["weak"] < rates["strong"]

    view(tmp_path, browse=False, as_json=True)
    index = strict_json(capsys.readouterr().out)
    found = {Path(line["folder"]).name: line["models"][0]["asr"] for line in index["runs"]}
    assert found == rates
    assert all(Path(tmp_path, line["page"]).is_file() for line in index["runs"])

    compare(two_runs, tmp_path / "comparison", as_json=True)
    compared = strict_json(capsys.readouterr().out)
    natives = [line for line in compared["cells"] if line["method"] == "dual-averaging"]
    assert [(one["1:asr"], one["2:asr"]) for one in natives] == [(rates["weak"], rates["strong"])]

    leaderboard(tmp_path / "board", as_json=True)
    (board,) = strict_json(capsys.readouterr().out)["boards"]
    assert len(board["entries"]) == len(two_runs)


def test_what_one_run_lacks_is_left_open(make_rows: Rows, make_inputs: Inputs) -> None:
    whole = make_inputs(make_rows(**SMALL))
    part = make_inputs(whole.rows.filter(pl.col("explainer").is_null()))
    table = side_by_side([("a", whole), ("b", part)])
    assert table.filter(pl.col("2:asr").is_null())["method"].to_list() == [
        "dual-averaging in gradient ×8"
    ]
    with pytest.raises(RunError, match="two runs"):
        side_by_side([("a", whole)])
    mixed = pl.concat([whole.rows, whole.rows.with_columns(pl.lit("tess").alias("corpus"))])
    several = make_inputs(mixed)
    assert len(side_by_side([("a", several), ("b", several)])) == 2 * len(FEW)


def test_an_entry_holds_the_worst_case_over_all_attacks(
    make_rows: Rows, make_inputs: Inputs
) -> None:
    rows = make_rows(**SMALL)
    (entry,) = entries(make_inputs(rows))
    right = {row["utterance"] for row in rows.to_dicts() if row["correct_before"]}
    misclassified = {row["utterance"] for row in rows.to_dicts() if row["success"]} & right
    single = (
        rows.filter(pl.col("correct_before")).group_by("explainer").agg(pl.col("success").sum())
    )
    assert len(misclassified) > single["success"].max(), (
        "the ensemble succeeds more often than the best attack alone"
    )
    assert entry.evaluated["accuracy"] == len(right) / 30
    assert entry.evaluated["robust_accuracy"] == (len(right) - len(misclassified)) / 30
    assert entry.evaluated["worst_case_asr"] == len(misclassified) / len(right)
    assert entry.reported is None


def test_a_recording_that_was_tried_twice_is_one_utterance(
    make_rows: Rows, make_inputs: Inputs
) -> None:
    once = make_rows(**SMALL)
    again = once.with_columns(pl.lit(1, pl.Int64).alias("victim_seed"))
    (first,) = entries(make_inputs(once))
    (second,) = entries(make_inputs(pl.concat([once, again])))
    assert second == first
    # The second seed withstands on one recording, which therefore counts half.
    flipped = once.filter(pl.col("correct_before") & pl.col("success"))["utterance"][0]
    withstands = pl.col("success") & (pl.col("utterance") != flipped)
    (third,) = entries(
        make_inputs(pl.concat([once, again.with_columns(withstands.alias("success"))]))
    )
    assert third.utterances == 30
    assert third.evaluated["robust_accuracy"] == pytest.approx(
        (first.evaluated["robust_accuracy"] or 0.0) + 0.5 / 30
    )
    # Of several seeds of an attack the worst counts.
    worst = once.with_columns(withstands.alias("success"), pl.lit(1, pl.Int64).alias("attack_seed"))
    (fourth,) = entries(make_inputs(pl.concat([once, worst])))
    assert fourth.evaluated == first.evaluated


def test_reported_numbers_stay_beside_the_evaluated(
    make_rows: Rows, make_inputs: Inputs, tmp_path: Path
) -> None:
    inputs = make_inputs(make_rows(**SMALL), name="<script>alert(1)</script>/../x")
    (path,) = write_entries(tmp_path / "board", inputs)
    assert path.parent == tmp_path / "board"
    fields = json.loads(path.read_text("utf-8"))
    fields["reported"] = {"robust_accuracy": 0.875, "source": "Table 3"}
    path.write_text(json.dumps(fields), "utf-8")
    assert write_entries(tmp_path / "board", inputs) == [path]
    assert read_entry(path).reported == fields["reported"]
    leaderboard(tmp_path / "board")
    page = (tmp_path / "board" / "index.html").read_text("utf-8")
    assert "87.5" in page
    assert "Table 3" in page
    assert "<script>alert" not in page


@pytest.mark.parametrize(
    "text", ["{", "[]", "{}", '{"attacks": []}'], ids=["cut", "list", "empty", "fields missing"]
)
def test_what_is_no_entry_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "broken.json").write_text(text, "utf-8")
    with pytest.raises(RunError, match=r"broken\.json is not a leaderboard entry"):
        write_leaderboard(tmp_path)


def test_per_cent_are_no_fractions(make_rows: Rows, make_inputs: Inputs, tmp_path: Path) -> None:
    (path,) = write_entries(tmp_path, make_inputs(make_rows(**SMALL)))
    fields = json.loads(path.read_text("utf-8"))
    path.write_text(json.dumps({**fields, "reported": {"robust_accuracy": 87.5}}), "utf-8")
    with pytest.raises(RunError, match="fraction"):
        read_entry(path)


def test_a_folder_without_entries_is_named(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=f"leaderboard entries.*--entries {tmp_path}"):
        write_leaderboard(tmp_path)
