"""VICTIM and FEATURES on the command line: one order, and folders of a run."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner, Result

import sigma_ser as ss
from sigma_ser.cli import attack, audit, evaluate, explain, train
from sigma_ser.cli.arguments import features_folder, victim_source
from sigma_ser.core.errors import ConfigError, SigmaError
from sigma_ser.demo import corpus_path
from sigma_ser.runs.layout import RunLayout

app = typer.Typer()
for command in (attack.attack, audit.audit, evaluate.evaluate, explain.explain, train.train):
    app.command()(command)

_SPLIT = ["--protocol", "random-stratified"]


@pytest.fixture(scope="module")
def layout(tmp_path_factory: pytest.TempPathFactory) -> RunLayout:
    """A run folder with features of a manifest, the study that names it, and a victim."""
    folder = tmp_path_factory.mktemp("arguments")
    with (corpus_path() / "index.csv").open(newline="") as file:
        rows = [
            (row["id"], str((corpus_path() / row["path"]).resolve()), row["label"], row["speaker"])
            for row in csv.DictReader(file)
            if row["label"] in {"angry", "sad"} and row["text_id"] in {"bean", "chalk"}
        ]
    manifest = folder / "recordings.csv"
    with manifest.open("w", newline="") as file:
        csv.writer(file).writerows([("id", "path", "label", "speaker"), *rows])
    layout = RunLayout(folder / "run")
    corpus = ss.load_corpus("manifest", manifest)
    store = ss.extract(corpus, ss.load_encoder("demo", layer=1), layout.features("a"))
    section = {"name": "manifest", "root": str(manifest), "protocol": ["random-stratified"]}
    layout.study.write_text(json.dumps({"corpus": [section]}), "utf-8")
    fold = ss.make_folds(corpus, "random-stratified")[0]
    ss.train(store, fold, head="linear", epochs=2).save(layout.victim("linear"))
    return layout


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(one) for one in arguments])


def values(*arguments: object) -> dict[str, Any]:
    result = run(*arguments, "--json")
    assert result.exit_code == 0, (result.output, result.exception)
    found: dict[str, Any] = json.loads(result.stdout)
    return found


def test_the_folders_of_a_run_are_arguments_of_every_command(
    layout: RunLayout, tmp_path: Path
) -> None:
    # Past fault: the corpus of a run's features had no registered name.
    victim, features = layout.victim("linear"), layout.features("a")
    trained = values(
        "train", features, *_SPLIT, "--head", "linear", "--fold", "random-1", "--set", "epochs=1",
        "--out", tmp_path / "victims",
    )  # fmt: skip
    assert trained["victims"][0]["test_utterances"] > 0
    for folders in ((victim, features), (victim.parent, features.parent)):
        scores = values("evaluate", *folders, *_SPLIT)
        assert (scores["part"], scores["victim"]) == ("test", str(victim))
        assert "speakers" in scores
    explained = values(
        "explain", victim, features, "gradient", "--utterances", 2, "--quality", 0,
        "--bank", tmp_path / "bank",
    )  # fmt: skip
    assert explained["explainers"][0]["maps"] == 2


def test_an_attack_takes_the_folders_of_a_run(
    layout: RunLayout, monkeypatch: pytest.MonkeyPatch
) -> None:
    found: list[object] = []

    def record(victim: str, features: Path, *_: object, **__: object) -> None:
        found.extend([victim, features])
        raise ConfigError("enough")

    monkeypatch.setattr("sigma_ser.study.attack.attack_study", record)
    victim, features = layout.victim("linear"), layout.features("a")
    assert str(run("attack", victim.parent, features.parent, "oneshot").exception) == "enough"
    assert found == [str(victim), features]


def test_a_corpus_without_a_registered_name_is_given(layout: RunLayout, tmp_path: Path) -> None:
    features = tmp_path / "elsewhere"
    features.symlink_to(layout.features("a"))
    call = ["evaluate", layout.victim("linear"), features, *_SPLIT]
    unknown = run(*call)
    assert isinstance(unknown.exception, ConfigError)
    assert "'recordings', which is not a registered corpus" in str(unknown.exception)
    manifest = layout.folder.parent / "recordings.csv"
    assert values(*call, "--corpus", manifest)["part"] == "test"


@pytest.mark.parametrize("command", ["evaluate", "explain", "attack"])
def test_swapped_arguments_are_given_in_the_right_order(command: str, layout: RunLayout) -> None:
    victim, features = layout.victim("linear"), layout.features("a")
    for folders in ((features, victim), (features.parent, victim.parent)):
        swapped = run(command, *folders)
        assert isinstance(swapped.exception, ConfigError)
        right = f"write sigma-ser {command} {folders[1]} {folders[0]}"
        assert str(swapped.exception).endswith(right)


@pytest.mark.parametrize("command", ["evaluate", "explain", "attack"])
def test_victims_come_before_features_in_the_usage(command: str) -> None:
    usage = run(command, "--help").stdout.lower()
    assert 0 < usage.index("{victim}") < usage.index("{features}")


def test_folders_that_do_not_determine_the_argument_are_refused(
    layout: RunLayout, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match="is a victim and not a feature store"):
        features_folder(layout.victim("linear"))
    for name in ("one", "two"):
        layout_of_two = RunLayout(tmp_path)
        layout_of_two.features(name).mkdir(parents=True)
        (layout_of_two.features(name) / "store.json").write_text("{}")
        layout_of_two.victim(name).mkdir(parents=True)
        layout_of_two.victim_card(name).write_text('{"source": "hf:lab/model"}')
    with pytest.raises(ConfigError, match="holds 2 feature stores; give one of them: one, two"):
        features_folder(tmp_path / "features")
    with pytest.raises(ConfigError, match="holds 2 victims; give one of them: one, two"):
        victim_source(str(tmp_path / "victims"))
    with pytest.raises(ConfigError, match="give its own source, hf:lab/model"):
        victim_source(str(tmp_path / "victims" / "one"))
    assert victim_source("hf:lab/model") == "hf:lab/model"


def test_an_audit_of_a_hub_model_without_its_prefix_names_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    failed = run("audit", "lab/tiny", "demo")
    assert isinstance(failed.exception, SigmaError)
    assert str(failed.exception).endswith("use hf:lab/tiny")
