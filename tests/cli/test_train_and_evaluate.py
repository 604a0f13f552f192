"""`sigma-ser train` and `evaluate` on an imitation of IEMOCAP: five folds, scored, refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import typer
from typer.testing import CliRunner, Result

import sigma_ser as ss
from sigma_ser.cli.evaluate import evaluate
from sigma_ser.cli.train import train

app = typer.Typer()
app.command()(train)
app.command()(evaluate)

# Emotions as tones, so that a fold can be learnt in a second.
_TONES = {"ang": 900.0, "hap": 500.0, "neu": 250.0, "sad": 120.0}
_LINE = "[{start:.4f} - {end:.4f}]\t{name}\t{label}\t[2.5000, 3.0000, 2.5000]\n"


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five sessions of two dialogs; each of the ten speakers says each emotion twice."""
    root = tmp_path_factory.mktemp("iemocap") / "IEMOCAP_full_release"
    rng = np.random.default_rng(0)
    for session in range(1, 6):
        for number, speaker in enumerate("FM", start=1):
            dialog = f"Ses0{session}{speaker}_impro0{number}"
            base = root / f"Session{session}"
            lines = ""
            for turn, label in enumerate([*_TONES, *_TONES]):
                name = f"{dialog}_{speaker}{turn:03d}"
                time = np.arange(4000 + 400 * turn) / 16_000
                tone = 0.3 * np.sin(2 * np.pi * _TONES[label] * time)
                wave = tone + 0.02 * rng.standard_normal(len(time))
                path = base / "sentences" / "wav" / dialog / f"{name}.wav"
                path.parent.mkdir(parents=True, exist_ok=True)
                soundfile.write(path, wave.astype(np.float32), 16_000)
                lines += _LINE.format(start=turn, end=turn + 0.5, name=name, label=label) + "\n"
            labels = base / "dialog" / "EmoEvaluation" / f"{dialog}.txt"
            labels.parent.mkdir(parents=True, exist_ok=True)
            labels.write_text(lines)
    return root


@pytest.fixture(scope="module")
def store(release: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("store")
    ss.extract(ss.load_corpus("iemocap4", release), ss.load_encoder("demo", layer=1), out=folder)
    return folder


def sigma_ser(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def json_of(result: Result) -> dict[str, Any]:
    assert result.exit_code == 0, result.output
    found: dict[str, Any] = json.loads(result.stdout)
    return found


@pytest.fixture(scope="module")
def trained(store: Path, release: Path, tmp_path_factory: pytest.TempPathFactory):
    """The command that trained two heads on the five folds, and what it said."""
    out = tmp_path_factory.mktemp("victims")
    command = [
        "train", store, "--root", release, "--protocol", "iemocap4-loso5", "--out", out,
        "--head", "linear", "--head", "emobox", "--set", "epochs=8", "--set", "batch_size=8",
        "--set", "learning_rate=0.01", "--set", "patience=4", "--json",
    ]  # fmt: skip
    return command, json_of(sigma_ser(*command))


def test_one_command_trains_all_folds_and_averages_them(trained) -> None:
    _, said = trained
    victims = said["victims"]
    assert [v["fold"] for v in victims if v["head"] == "linear"] == [
        f"test-Ses0{session}" for session in range(1, 6)
    ]
    for mean in said["means"]:
        own = [victim for victim in victims if victim["head"] == mean["head"]]
        assert mean["victims"] == len(own) == 5
        assert mean["uar"] == pytest.approx(np.mean([victim["uar"] for victim in own]))
        assert mean["uar"] > 0.8
    assert {mean["head"] for mean in said["means"]} == {"linear", "emobox"}
    assert all(victim["test_utterances"] == 16 for victim in victims)


def test_what_is_trained_is_kept_and_never_overwritten(trained) -> None:
    command, said = trained
    weights = Path(said["victims"][0]["folder"]) / "victim.safetensors"
    before = weights.stat().st_mtime_ns
    again = json_of(sigma_ser(*command))
    timeless = [{**victim, "seconds": 0} for victim in said["victims"]]
    assert [{**victim, "seconds": 0} for victim in again["victims"]] == timeless
    assert weights.stat().st_mtime_ns == before
    other = sigma_ser(*command, "--set", "epochs=9")
    assert "trained with other settings" in str(other.exception)


def test_evaluate_scores_the_test_part_per_class_and_speaker(trained, store, release) -> None:
    _, said = trained
    victim = said["victims"][1]
    part = ["--root", release, "--protocol", "iemocap4-loso5"]
    scores = json_of(sigma_ser("evaluate", victim["folder"], store, *part, "--json"))
    for name in ("uar", "uar_low", "uar_high", "accuracy", "macro_f1", "calibration_error"):
        assert scores[name] == pytest.approx(victim[name])
    assert scores["accuracy_low"] <= scores["accuracy"] <= scores["accuracy_high"]
    assert np.sum(scores["confusion"]) == scores["test_utterances"] == 16
    assert {name: own["utterances"] for name, own in scores["speakers"].items()} == {
        "Ses02F": 8, "Ses02M": 8,
    }  # fmt: skip
    recalls = [scores["classes"][name]["recall"] for name in scores["class_names"]]
    assert recalls == scores["recalls"]
    assert np.mean(recalls) == pytest.approx(scores["uar"])
    whole = sigma_ser("evaluate", victim["folder"], store)
    assert whole.stdout.startswith("80 utterances (all): UAR")
    assert "Scores per class and confusion matrix (columns: predicted class)" in whole.stdout
    # Past fault: the score of the whole store was high, because the victim was trained on most.
    assert scores["notes"] == []
    (note,) = json_of(sigma_ser("evaluate", victim["folder"], store, "--json"))["notes"]
    assert note["code"] == "training-recordings"
    assert "64 of these 80 utterances are in the training or validation part" in note["text"]
    assert f"Note (training-recordings): {note['text']}" in whole.stderr.replace("\n", " ")


def test_hardening_is_an_option_of_the_same_command(store, release, tmp_path: Path) -> None:
    said = json_of(
        sigma_ser(
            "train", store, "--root", release, "--protocol", "iemocap4-loso5", "--out", tmp_path,
            "--fold", "test-Ses03", "--seed", "1", "--seed", "2", "--set", "epochs=2",
            "--set", "head.hidden=8", "--adversarial", "dual-averaging(steps=2)",
            "--sparsity", "0.02", "--epsilon", "0.4", "--json",
        )
    )  # fmt: skip
    cards = [ss.load_victim(Path(victim["folder"])).card for victim in said["victims"]]
    assert [card.seed for card in cards] == [1, 2]
    hardening = cards[0].training["adversarial"]
    assert hardening["attack"].startswith("DualAveraging(steps=2")
    assert (hardening["sparsity"], hardening["epsilon"]) == (0.02, 0.4)
    assert cards[0].head_settings == {"hidden": 8}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--set", "epoch=3"], "no setting 'epoch'"),
        (["--set", "epochs=many"], "epochs of training must be a whole number"),
        (["--set", "epochs=0"], "epochs must be at least 1"),
        (["--head", "bilstn"], "did you mean bilstm"),
        (["--fold", "test-Ses06"], "no fold 'test-Ses06'"),
        (["--adversarial", "dual-avraging"], "did you mean dual-averaging"),
        (["--set", "learning_rate=1e37", "--set", "clip=1e38", "--head", "linear"], "loss became"),
    ],
)
def test_what_cannot_be_trained_leaves_nothing_behind(
    arguments: list[str], said: str, store: Path, release: Path, tmp_path: Path
) -> None:
    out = tmp_path / "victims"
    failed = sigma_ser(
        "train", store, "--root", release, "--protocol", "iemocap4-loso5", "--out", out, *arguments
    )
    assert isinstance(failed.exception, ss.SigmaError)
    assert said in str(failed.exception)
    assert not out.exists()


def test_a_part_or_fold_that_does_not_exist_is_named(trained, store, release) -> None:
    folder = trained[1]["victims"][0]["folder"]
    part = ["--root", release, "--protocol", "iemocap4-loso5"]
    wrong = sigma_ser("evaluate", folder, store, "--part", "tests")
    assert "train, validation, test" in str(wrong.exception)
    wrong = sigma_ser("evaluate", folder, store, *part, "--fold", "test-Ses09")
    assert "no fold 'test-Ses09'" in str(wrong.exception)


def test_a_fold_of_the_same_name_that_the_victim_did_not_learn_from_is_refused(
    store, release, tmp_path
) -> None:
    """Otherwise most of its test part would be training recordings of the victim."""
    kfold = ["--root", release, "--protocol", "speaker-kfold"]
    few = ["--fold", "speakers-1", "--head", "linear", "--set", "epochs=1", "--out", tmp_path]
    folder = json_of(sigma_ser("train", store, *kfold, *few, "--json"))["victims"][0]["folder"]
    json_of(sigma_ser("evaluate", folder, store, *kfold, "--json"))
    other = [*kfold, "--split-seed", "1"]
    wrong = sigma_ser("evaluate", folder, store, *other)
    assert isinstance(wrong.exception, ss.SigmaError)
    assert "not the one that the victim was trained on" in str(wrong.exception)
    json_of(sigma_ser("evaluate", folder, store, *other, "--fold", "speakers-1", "--json"))
