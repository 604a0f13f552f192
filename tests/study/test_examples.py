"""A reduced form of every example runs: few recordings, one head, one epoch, few steps."""

from __future__ import annotations

import shutil
from itertools import islice, product
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import soundfile

import sigma_ser as ss
from sigma_ser.runs.layout import RunLayout
from sigma_ser.study.inputs import open_inputs, plan_study
from sigma_ser.study.loading import load_study
from sigma_ser.study.name_checks import check_names

EXAMPLES = Path(__file__).parents[2] / "examples"
# What every reduced form changes: no more than sizes and where it runs.
SMALL = (
    'executor={name = "inline"}',
    "corpus.folds=[0]",
    "evaluation.utterances=4",
    "evaluation.exemplars=0",
    "consistency.settings={steps = 2}",
    'victims=[{head = "linear", epochs = 2}, {head = "mlp", epochs = 2}]',
    "attacks.0.steps=2",
    'attacks.0.explainers=["gradient"]',
    "attacks.0.scopes=[8]",
)


def reduced(name: str, out: Path, *more: str) -> ss.Study:
    return ss.run(EXAMPLES / f"{name}.toml", out=out, overrides=[*SMALL, *more])


def linked(folder: Path, files: list[Path], root: Path) -> Path:
    """A corpus folder with some of the recordings of another one."""
    for file in files:
        place = folder / file.relative_to(root)
        place.parent.mkdir(parents=True, exist_ok=True)
        place.symlink_to(file)
    return folder


def cells(study: ss.Study) -> int:
    assert study.failures == []
    assert study.report.exists()
    return len(study.summary)


@pytest.mark.study
def test_quick(tmp_path: Path, demo_features: Path) -> None:
    shutil.copytree(demo_features, tmp_path / "run" / "features")
    study = reduced("quick", tmp_path / "run", "consistency.settings={}")
    # Native, and in masks of four sources, on two victims; two more attacks.
    assert cells(study) == 2 * (1 + 4 + 2)
    assert set(study.rows["mask_source"].unique()) == {
        None, "own", "linear", "mlp", "consensus", "universal",
    }  # fmt: skip
    replays = study.replays
    assert replays is not None
    assert len(replays) == len(study.rows)
    assert set(replays.select("victim", "target_victim").unique().rows()) == {
        ("linear", "mlp"), ("mlp", "linear"),
    }  # fmt: skip
    # Of an utterance that the attack left alone, the target says what it always said.
    alone = study.rows.filter(pl.col("l0") == 0).select("victim", "utterance", "attack")
    same = replays.join(alone, on=["victim", "utterance", "attack"])
    assert (same["prediction_before"] == same["prediction_after"]).all()
    assert (study.folder / "analysis" / "replay_transfer.csv").exists()


@pytest.mark.study
def test_audio(tmp_path: Path, demo_features: Path) -> None:
    shutil.copytree(demo_features, tmp_path / "run" / "features")
    study = reduced(
        "audio", tmp_path / "run", "consistency.settings={}", "budgets.snr=[20]",
        'victims=[{head = "linear", epochs = 2}]', "evaluation.utterances=2",
    )  # fmt: skip
    # On features both sources are one map; on the waveform there are two, and two corruptions.
    assert cells(study) == (1 + 1 + 1) + (1 + 2 + 1) + 2
    assert study.rows.filter(surface="waveform")["round_trip_success"].null_count() == 0


@pytest.mark.study
def test_iemocap_on_an_imitation(tmp_path: Path) -> None:
    release, rng = tmp_path / "IEMOCAP_full_release", np.random.default_rng(0)
    for session in range(1, 6):
        place = release / f"Session{session}"
        lines = []
        for who, label, number in product("FM", ("ang", "hap", "neu", "sad"), range(2)):
            dialog = f"Ses{session:02d}{who}_impro01"
            name = f"{dialog}_{who}{10 * number + len(lines):03d}"
            wave = place / "sentences" / "wav" / dialog / f"{name}.wav"
            wave.parent.mkdir(parents=True, exist_ok=True)
            soundfile.write(wave, 0.1 * rng.standard_normal(6400 + 160 * number), 16000)
            lines.append((dialog, f"[1.0000 - 2.0000]\t{name}\t{label}\t[3.0, 2.5, 2.5]\n\n"))
        for dialog in {dialog for dialog, _ in lines}:
            text = place / "dialog" / "EmoEvaluation" / f"{dialog}.txt"
            text.parent.mkdir(parents=True, exist_ok=True)
            text.write_text("% header\n\n" + "".join(line for d, line in lines if d == dialog))
    study = reduced("iemocap", tmp_path / "run", f"corpus.root={release}")
    assert cells(study) == 2 * (1 + 2) + 2 * (1 + 1) + 2 * 3 + 2 * 2
    assert study.victims[0]["test_utterances"] == 16


def test_paper_plans_all_that_its_claims_compare(tmp_path: Path) -> None:
    """A dry run on another corpus; its attacks run in the other examples."""
    path = EXAMPLES / "paper.toml"
    sections = load_study(path).config.corpus
    assert [one.name for one in sections or ()] == ["iemocap4", "tess"]
    loaded = load_study(path, ['corpus=[{name = "demo", protocol = "demo-voices"}]'])
    check_names(loaded)
    inputs = open_inputs(loaded.config, RunLayout(tmp_path))
    plan = plan_study(loaded.config, inputs, None)
    # For each of two budgets and three victims: own and random masks of two sizes for each of three
    # attacks, masks of two other victims for one of them, and six attacks without a mask.
    assert len(plan.attacks) == 2 * 3 * (3 * (2 + 1) * 2 + 2 * 2 * 2 + 6)
    assert len(plan.replays) == 2 * len(plan.attacks)


@pytest.mark.real
@pytest.mark.study
@pytest.mark.parametrize(("name", "each"), [("tess", 3), ("ravdess", 8)])
def test_real_recordings(real_data: Path, tmp_path: Path, name: str, each: int) -> None:
    root = real_data / {"tess": "tess", "ravdess": "ravdess-4class"}[name]
    corpus = ss.load_corpus(name, root)
    groups: dict[tuple[str, str], list[Path]] = {}
    for one in corpus:
        groups.setdefault((one.speaker, one.label), []).append(one.path)
    few = [path for paths in groups.values() for path in islice(sorted(paths), each)]
    if name == "ravdess":
        few = [path for path in few if path.stem[-2:] <= "10"]
    folder = linked(tmp_path / "corpus", few, root)
    study = reduced(name, tmp_path / "run", f"corpus.root={folder}")
    assert cells(study) > 10
    assert (study.rows["linf"] <= study.rows["epsilon"] * (1 + 1e-4)).all()
