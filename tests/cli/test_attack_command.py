"""`sigma-ser attack`: cells, rows and refusals on a small store and a small victim."""

from __future__ import annotations

import dataclasses
import json
import shutil
from itertools import chain, groupby
from pathlib import Path

import polars as pl
import pytest
import soundfile
import torch
import typer
from typer.testing import CliRunner, Result

import sigma_ser as ss
from sigma_ser.audio.reading import read_audio
from sigma_ser.audio.writing import NOTICE, read_provenance
from sigma_ser.cli.attack import attack
from sigma_ser.core.errors import ConfigError, SigmaError
from sigma_ser.core.rows import schema
from sigma_ser.victims.exposure import exposure, unseen


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Folders of features of 56 utterances of the demo corpus, and of a victim trained on half."""
    folder = tmp_path_factory.mktemp("attack")
    corpus = ss.load_corpus("demo")
    each = (list(group)[:8] for _, group in groupby(
        sorted(corpus.utterances, key=lambda one: (one.label, one.id)), key=lambda one: one.label
    ))  # fmt: skip
    few = dataclasses.replace(corpus, utterances=tuple(chain.from_iterable(each)))
    store = ss.extract(few, ss.load_encoder("demo", layer=1), folder / "features")
    ids = sorted(store.ids)
    fold = ss.Fold("half", train=ids[::2], validation=[], test=ids[1::2])
    victim = ss.train(store, fold, head="linear", epochs=40, learning_rate=0.01)
    return store.folder, victim.save(folder / "victim")


def invoke(*arguments: object) -> Result:
    # Not the root: its own options are no part of this.
    app = typer.Typer()
    app.command()(attack)
    return CliRunner().invoke(app, [str(one) for one in arguments])


ROUNDED = """
import torch

import sigma_ser as ss

inner = ss.load_victim({folder!r})


class Rounded(torch.nn.Module):
    class_names, mean, scale = inner.class_names, inner.mean, inner.scale

    def __init__(self):
        super().__init__()
        self.inner = inner.module

    def forward(self, x, lengths):
        return torch.round(self.inner(x, lengths) * 4) / 4
"""


def test_a_masked_victim_is_named_before_its_rates(
    study: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    features, victim = study
    (tmp_path / "rounded_victim.py").write_text(ROUNDED.format(folder=str(victim)), "utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    arguments = ("rounded_victim:Rounded", features, "oneshot", "--utterances", 6)
    text = invoke(*arguments)
    assert text.exit_code == 0, text.output
    assert "no evidence of robustness" in text.stderr
    assert "Warning" not in text.stdout
    result = json.loads(invoke(*arguments, "--json").stdout)
    assert "zero-gradient" in result["gradient_check"]["signs"]
    assert len(result["warnings"]) == 1
    assert list(result).index("warnings") < list(result).index("cells")


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
    assert result["gradient_check"]["masked"] is False
    assert result["warnings"] == []
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
    assert "3 utterances were classified correctly" in done.stderr
    assert "Note (training-recordings): " not in done.stderr


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
    assert result["training_recordings"] is None
    assert "are not known" in result["notes"][0]["text"]


def test_the_test_part_of_the_victim_is_attacked(study: tuple[Path, Path], tmp_path: Path) -> None:
    """Without its fold the result says that the utterances may be those of its training."""
    features, victim = study
    few = ("--utterances", "2")
    fold = ss.load_victim(victim).fold
    assert fold is not None
    out = tmp_path / "run"
    done = invoke(victim, features, "oneshot", *few, "--out", out, "--json")
    result = json.loads(done.stdout)
    assert set(pl.read_parquet(out / "rows.parquet")["utterance"]) <= set(fold.test)
    assert result["training_recordings"] == 0
    assert "training-recordings" not in [note["code"] for note in result["notes"]]

    ids = tmp_path / "ids.json"
    ids.write_text(json.dumps(fold.train), "utf-8")
    named = invoke(victim, features, "oneshot", *few, "--ids", ids, "--json")
    result = json.loads(named.stdout)
    assert result["training_recordings"] == result["utterances"] > 0
    assert result["notes"][0]["code"] == "training-recordings"
    assert f"{result['utterances']} of these" in result["notes"][0]["text"]

    unknown = shutil.copytree(victim, tmp_path / "unknown")
    (unknown / "fold.json").unlink()
    result = json.loads(invoke(unknown, features, "oneshot", *few, "--json").stdout)
    assert result["training_recordings"] is None
    assert "has no fold.json" in result["notes"][0]["text"]
    assert "may be among those" in result["notes"][0]["text"]
    done = invoke(unknown, features, "oneshot", *few)
    assert "Note (training-recordings): " in done.stderr
    assert "training-recordings" not in done.stdout


def test_unseen_utterances_where_none_of_the_test_part_is_there(study: tuple[Path, Path]) -> None:
    victim = ss.load_victim(study[1])
    fold = victim.fold
    assert fold is not None
    assert unseen(victim, [*fold.train, "new"]) == ["new"]
    assert unseen(victim, [*fold.train, *fold.test, "new"]) == list(fold.test)
    assert unseen(victim, fold.train) == list(fold.train)
    assert exposure(victim, [*fold.train, *fold.test]).known == len(fold.train)


def test_degenerate_figures_are_named(study: tuple[Path, Path]) -> None:
    done = invoke(study[1], study[0], "oneshot", "--utterances", 3, "--json")
    result = json.loads(done.stdout)
    assert result["cells"][0]["notes"][0] == "too-few"


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


def test_the_waveform_is_attacked_and_saved_as_files(study: tuple[Path, Path], tmp_path: Path):
    _, victim = study
    corpus = ss.load_corpus("demo")
    manifest = tmp_path / "few.csv"
    lines = [
        f"{corpus[name].path},{corpus[name].label},{name}"
        for name in ss.load_victim(victim).fold.test[:8]
    ]
    manifest.write_text("\n".join(["path,label,id", *lines]), "utf-8")
    few = ss.load_corpus("manifest", manifest)
    features = ss.extract(few, ss.load_encoder("demo", layer=1), tmp_path / "features").folder
    result = invoke(
        victim, features, "oneshot", "--surface", "waveform", "--snr", 20, "--sparsity", 0.5,
        "--corpus", manifest, "--utterances", 2, "--save-audio", tmp_path / "audio", "--json",
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    (cell,) = json.loads(result.stdout)["cells"]
    assert (cell["surface"], cell["budget_snr"], cell["epsilon"]) == ("waveform", 20.0, None)
    assert cell["snr"] == pytest.approx(20, abs=0.1)
    files = sorted((tmp_path / "audio").glob("*/*.flac"))
    assert len(files) == 2
    for file in files:
        about = read_provenance(file)
        assert about is not None
        assert (about.notice, about.budget["budget_snr"]) == (NOTICE, 20.0)
        assert soundfile.info(file).subtype == "PCM_16"
        clean = ss.waveforms(corpus, [about.original]).x.flatten()
        delta = torch.from_numpy(read_audio(file)) - clean
        step = 2**-15
        assert float(delta.abs().max()) <= about.budget["bound"] + step
    assert not (tmp_path / "run").exists()


def test_ratios_and_files_need_the_waveform(study: tuple[Path, Path], tmp_path: Path):
    features, victim = study
    for option in (("--snr", 20), ("--save-audio", tmp_path)):
        result = invoke(victim, features, "oneshot", *option)
        assert isinstance(result.exception, ConfigError)
        assert "need --surface waveform" in str(result.exception)
