"""`sigma-ser attack`: cells, rows and refusals on a small store and a small victim."""

from __future__ import annotations

import dataclasses
import json
from itertools import chain, groupby
from pathlib import Path

import polars as pl
import pytest
import typer
from typer.testing import CliRunner, Result

import sigma_ser as ss
from sigma_ser.cli.attack import attack
from sigma_ser.core.errors import ConfigError, SigmaError
from sigma_ser.core.rows import schema


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Folders of features of 21 utterances of the demo corpus, and of a trained victim."""
    folder = tmp_path_factory.mktemp("attack")
    corpus = ss.load_corpus("demo")
    each = (list(group)[:3] for _, group in groupby(
        sorted(corpus.utterances, key=lambda one: (one.label, one.id)), key=lambda one: one.label
    ))  # fmt: skip
    few = dataclasses.replace(corpus, utterances=tuple(chain.from_iterable(each)))
    store = ss.extract(few, ss.load_encoder("demo", layer=1), folder / "features")
    fold = ss.Fold("all", train=store.ids[1:], validation=[], test=store.ids[:1])
    victim = ss.train(store, fold, head="linear", epochs=40, learning_rate=0.01)
    return store.folder, victim.save(folder / "victim")


def invoke(*arguments: object) -> Result:
    # Not the root: its own options are no part of this.
    app = typer.Typer()
    app.command()(attack)
    return CliRunner().invoke(app, [str(one) for one in arguments])


def test_a_grid_as_json_with_rows(study: tuple[Path, Path], tmp_path: Path) -> None:
    features, victim = study
    out = tmp_path / "run"
    done = invoke(
        victim, features, "oneshot", "dual-averaging(steps=3)", "--sparsity", 0.01, "--sparsity",
        0.1, "--epsilon", 1, "--explainer", "gradient", "--scope", 4, "--utterances", 6,
        "--batch-size", 4, "--out", out, "--json",
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    result = json.loads(done.stdout)
    cells = result["cells"]
    assert result["rows"] == str(out / "rows.parquet")
    assert (out / "report" / "index.html").is_file()
    assert len(cells) == 2 * 2 * 2
    assert [cell["explainer"] for cell in cells] == [None, "gradient"] * 4
    assert {cell["utterances"] for cell in cells} == {6}
    rows = pl.read_parquet(out / "rows.parquet")
    assert rows.columns == schema().names
    assert len(rows) == 8 * 6
    assert bool(rows["correct_before"].all())
    assert bool((rows["l0"] <= rows["budget_elements"]).all())
    assert rows["mask_backwards"].sum() > 0
    for cell in cells:
        mine = rows.filter(
            (pl.col("attack") == cell["attack"])
            & (pl.col("sparsity") == cell["sparsity"])
            & pl.col("explainer").eq_missing(pl.lit(cell["explainer"]))
        )
        assert cell["asr"] == pytest.approx(mine["success"].mean())


def test_lines_without_a_terminal_and_a_refusal(study: tuple[Path, Path]) -> None:
    features, victim = study
    done = invoke(victim, features, "pgd", "oneshot", "--utterances", 3)
    assert done.exit_code == 1
    lines = [line.split("\t") for line in done.stdout.splitlines()]
    assert [line[0] for line in lines] == ["attack", "pgd", "oneshot"]
    assert "keep_largest" in lines[1][-3]
    assert lines[2][6].endswith("of 3")


def test_without_a_folder_nothing_stays_on_disk(
    study: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    assert invoke(study[1], study[0], "oneshot", "--utterances", 2).exit_code == 0
    assert list(tmp_path.iterdir()) == []


def test_masks_of_another_victim(study: tuple[Path, Path], tmp_path: Path) -> None:
    features, victim = study
    store = ss.FeatureStore(features)
    fold = ss.Fold("all", train=store.ids[1:], validation=[], test=store.ids[:1])
    other = ss.train(store, fold, head="linear", epochs=2, seed=1).save(tmp_path / "other")
    done = invoke(
        victim, features, "pgd", "--explainer", "gradient", "--scope", 1, "--mask-victim", other,
        "--utterances", 3, "--json", "--out", tmp_path / "run",
    )  # fmt: skip
    cells = {cell["mask_source"]: cell for cell in json.loads(done.stdout)["cells"]}
    assert cells["other"]["asr"] >= 0
    assert "keep_largest" in cells[None]["refused"]
    rows = pl.read_parquet(tmp_path / "run" / "rows.parquet")
    assert set(rows["victim"]) == {"victim"}


def test_a_foreign_module(
    study: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "foreign_head.py").write_text(
        "import torch\n"
        "class Pool(torch.nn.Module):\n"
        "    def forward(self, x, lengths):\n"
        "        pooled = (x * x).sum((1, 2)) / lengths - 10\n"
        "        return torch.stack([pooled * (i - 3) for i in range(7)], 1)\n",
        "utf-8",
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    ids = tmp_path / "ids.json"
    ids.write_text(json.dumps(list(ss.FeatureStore(study[0]).ids)), "utf-8")
    done = invoke("foreign_head:Pool", study[0], "oneshot", "--ids", ids, "--json")
    assert done.exit_code == 0, done.exception
    result = json.loads(done.stdout)
    assert result["utterances"] >= 1
    assert result["cells"][0]["utterances"] == result["utterances"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["oneshoot"], "did you mean oneshot"),
        (["dual-averaging(steps=3"], "closing bracket is missing"),
        (["dual-averaging(3)"], "expected key=value"),
        (["dual-averaging(pace=3)"], "has no setting 'pace'"),
        (["oneshot", "--sparsity", "0"], "must lie in (0, 1]"),
        (["oneshot", "--explainer", "gradeint"], "did you mean gradient"),
        (["oneshot", "--mask-victim", "x"], "needs --explainer"),
        (["oneshot", "--ids", "absent.json"], "cannot be read as a JSON list"),
        (["foolbix:PGD"], "unknown attack library"),
    ],
)
def test_wrong_usage_says_what_to_do(
    study: tuple[Path, Path], arguments: list[str], said: str
) -> None:
    done = invoke(study[1], study[0], *arguments)
    assert isinstance(done.exception, SigmaError)
    assert said in str(done.exception)
    assert done.stdout == ""


def test_a_corpus_needs_a_victim_that_knows_its_encoder(study: tuple[Path, Path]) -> None:
    done = invoke("some:module", study[0] / "new", "oneshot", "--corpus", "demo")
    assert isinstance(done.exception, ConfigError)
    assert "sigma-ser extract" in str(done.exception)
