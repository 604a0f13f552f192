"""Studies on the waveform: budgets, masks, the round trip, corruptions, replays and resumption."""

from __future__ import annotations

import copy
import shutil
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import soundfile
import torch

import sigma_ser as ss
from sigma_ser.cli.results import print_tables
from sigma_ser.core.budget import Budget
from sigma_ser.core.errors import ConfigError, SigmaError
from sigma_ser.core.rows import AUDIO_QUALITY, TIMING_COLUMNS
from sigma_ser.corpora.waveforms import waveforms
from sigma_ser.evaluate.groups import worst_case
from sigma_ser.evaluate.paired import paired_comparisons
from sigma_ser.evaluate.rates import headline
from sigma_ser.explainers.over_time import OverTime
from sigma_ser.report.inputs import load_inputs
from sigma_ser.runs.layout import RunLayout
from sigma_ser.study.budgets import budgets_of, corruption_settings
from sigma_ser.study.inputs import open_inputs, plan_study
from sigma_ser.study.loading import parse_study
from sigma_ser.study.mask_sources import sources_on
from sigma_ser.study.name_checks import check_names
from sigma_ser.study.scheduler import stages
from sigma_ser.study.sections import BudgetSection, CorruptionSection
from sigma_ser.study.steps import Plan
from sigma_ser.study.transfer import Perturbations

SNR, SPARSITY = 25.0, 0.1
# Columns of the rows that an exemplar has too.
_SHOWN = ("utterance", "victim", "attack", "explainer", "mask_source", "scope", "budget_snr")


@pytest.fixture(scope="session")
def waveform_values(study_values: dict[str, Any]) -> dict[str, Any]:
    """Two layers of the demo encoder, one head, both surfaces, two utterances."""
    values = copy.deepcopy(study_values)
    return values | {
        "name": "waveform",
        "surface": ["features", "waveform"],
        "encoder": {"name": "demo", "layer": [1, -1]},
        "victims": [{"head": "linear", "epochs": 30, "learning_rate": 0.01}],
        "budgets": {"sparsity": [SPARSITY], "epsilon": [0.5], "snr": SNR},
        "attacks": [
            {
                "name": "dual-averaging", "steps": 2, "explainers": ["gradient"],
                "mask_sources": ["own", "features"],
            }
        ],
        "corruptions": [{"name": "white-noise"}, {"name": "telephone"}],
        "evaluation": {
            "utterances": 2, "batch_size": 2, "replay": True,
            "exemplars": 1, "exemplar_sounds": True,
        },
    }  # fmt: skip


@pytest.fixture(scope="session")
def done(
    once: Callable[..., ss.Study],
    shortened: Callable[[], AbstractContextManager[None]],
    waveform_values: dict[str, Any],
) -> ss.Study:
    """The finished run."""

    def run(folder: Path) -> ss.Study:
        with shortened():
            return ss.run(waveform_values, out=folder / "run")

    return once("waveform-study", run)


def on_waveform(rows: pl.DataFrame) -> pl.DataFrame:
    return rows.filter(pl.col("surface") == "waveform", pl.col("granularity").is_not_null())


def without_times(rows: pl.DataFrame) -> pl.DataFrame:
    return rows.drop(TIMING_COLUMNS)


def the_victim(run: ss.Study, layer: str) -> tuple[ss.TrainedVictim, ss.FeatureStore]:
    folders = sorted((run.folder / "victims").iterdir())
    victims = [ss.load_victim(folder) for folder in folders]
    (victim,) = [one for one in victims if str(one.card.encoder["layer"]) == layer]
    stores = [ss.FeatureStore(folder) for folder in sorted((run.folder / "features").iterdir())]
    (store,) = [one for one in stores if str(one.card["encoder"]["layer"]) == layer]
    return victim, store


def planned(values: dict[str, Any], folder: Path) -> Plan:
    """The plan of a study, before anything is computed."""
    loaded = parse_study(values)
    check_names(loaded)
    return plan_study(loaded.config, open_inputs(loaded.config, RunLayout(folder)), None)


def test_each_surface_has_its_cells(done):
    assert done.failures == []
    cells = done.summary
    found = cells.group_by("surface", "mask_source").len().sort("surface", "mask_source").rows()
    # Native attacks and corruptions have no mask; on features both sources are the same map.
    assert found == [
        ("features", None, 2), ("features", "own", 2),
        ("waveform", None, 6), ("waveform", "features", 2), ("waveform", "own", 2),
    ]  # fmt: skip
    assert len(list((done.folder / "victims").iterdir())) == 2
    assert sorted(one["surface"] for one in done.victims) == ["features"] * 2 + ["waveform"] * 2


def test_the_terminal_names_surfaces_and_corruptions(done, capsys):
    print_tables(done)
    text = capsys.readouterr().out
    assert "waveform, natural corruptions" in text
    assert f"10 % of the samples, at {SNR:g} dB or more" in " ".join(text.split())
    head = text[: text.index("ASR")].splitlines()
    assert len([line for line in head if line.strip().startswith("linear")]) == 2  # two layers


def test_features_rows_are_those_of_a_study_on_features_alone(done, waveform_values, tmp_path):
    values = copy.deepcopy(waveform_values) | {"surface": "features", "corruptions": []}
    values["budgets"].pop("snr")
    values["encoder"]["layer"] = [-1]
    alone = ss.run(values, out=tmp_path / "run").rows
    same = done.rows.filter(
        pl.col("surface") == "features", pl.col("layer").is_in(alone["layer"].unique())
    )
    assert without_times(same).equals(without_times(alone))
    empty = ["budget_snr", *AUDIO_QUALITY, "round_trip_prediction", "round_trip_success"]
    assert alone.select(empty).null_count().row(0) == (len(alone),) * len(empty)
    assert (alone["bound"] == alone["epsilon"]).all()


def test_bounds_follow_from_the_ratio(done, small_corpus):
    rows = on_waveform(done.rows)
    assert rows["epsilon"].is_null().all()
    assert (rows["budget_snr"] == SNR).all()
    corpus = ss.load_corpus("manifest", small_corpus)
    for row in rows.iter_rows(named=True):
        wave = waveforms(corpus, [row["utterance"]]).x.double().flatten()
        k = row["budget_elements"]
        assert k == int(SPARSITY * len(wave))
        bound = (wave.square().sum() / k).sqrt().item() * 10 ** (-SNR / 20)
        assert row["bound"] == pytest.approx(bound)
        assert row["linf"] <= row["bound"] * (1 + 1e-5)
        assert row["l0"] <= k
        assert row["snr"] is None or row["snr"] >= SNR - 1e-3


def test_the_round_trip_is_a_16_bit_file_encoded_alone(done, small_corpus, tmp_path):
    corpus = ss.load_corpus("manifest", small_corpus)
    rows = on_waveform(done.rows).filter(pl.col("explainer").is_null())
    for folder in (done.folder / "attacks").iterdir():
        part = pl.read_parquet(folder / "part-00000.parquet")
        kept = folder / "perturbations-00000.safetensors"
        if not kept.exists() or part["surface"][0] == "features":
            continue
        victim, _ = the_victim(done, part["layer"][0])
        encoder = ss.load_encoder("demo", layer=int(part["layer"][0]))
        for row in part.iter_rows(named=True):
            clean = waveforms(corpus, [row["utterance"]])
            found = []
            for wave in (clean.x, Perturbations.load(kept).applied(clean)):
                steps = np.rint(wave.flatten().double().numpy() * 32768).clip(-32768, 32767)
                path = tmp_path / "wave.flac"
                soundfile.write(path, steps.astype(np.int16), 16_000, subtype="PCM_16")
                heard, _ = soundfile.read(path, dtype="float32")
                (features,) = encoder.encode([heard])
                x = features.half().float()[None]
                found.append(int(victim(x, torch.tensor([x.shape[1]])).argmax()))
            names = victim.class_names
            assert row["round_trip_correct"] == (names[found[0]] == row["label"])
            assert row["round_trip_prediction"] == names[found[1]]
            assert row["round_trip_success"] == (names[found[1]] != row["label"])
    assert len(rows)


def test_the_mask_of_the_features_lies_where_their_explanation_points(done, small_corpus):
    layer = str(done.rows["layer"][0])
    rows = on_waveform(done.rows).filter(
        pl.col("mask_source") == "features", pl.col("layer") == layer
    )
    victim, _ = the_victim(done, layer)
    whole = ss.on_waveform(ss.load_encoder("demo", layer=int(layer)), victim)
    waves = waveforms(ss.load_corpus("manifest", small_corpus), rows["utterance"].to_list())
    labels = torch.tensor([victim.class_names.index(one) for one in rows["label"]])
    saliency = ss.explain(OverTime("gradient"), whole, waves, labels)
    mask = ss.topk_mask(saliency, waves.lengths, Budget(sparsity=SPARSITY))
    for folder in (done.folder / "attacks").iterdir():
        part = pl.read_parquet(folder / "part-00000.parquet")
        if part["mask_source"][0] != "features" or part["layer"][0] != layer:
            continue
        kept = Perturbations.load(folder / "perturbations-00000.safetensors")
        changed = (kept.applied(waves) != waves.x) & ~mask
        # Features are stored as float16, so a few frames may change places.
        assert changed.sum() <= 0.05 * mask.sum()


def test_corruptions_are_rows_without_a_budget_and_no_attacks(done):
    rows = done.rows.filter(pl.col("granularity").is_null())
    assert set(rows["attack"]) == {"white-noise", "telephone"}
    nothing = ["sparsity", "epsilon", "scope", "explainer", "mask_source", "bound"]
    assert rows.select(nothing).null_count().row(0) == (len(rows),) * len(nothing)
    noise = rows.filter(pl.col("attack") == "white-noise")
    assert noise["attack_settings"].unique().to_list() == [f"WhiteNoise(snr={SNR})"]
    np.testing.assert_allclose(noise["snr"].to_numpy(), SNR, atol=1e-3)
    assert rows.filter(pl.col("attack") == "telephone")["budget_snr"].is_null().all()
    attacked = on_waveform(done.rows)["utterance"].unique().sort()
    assert noise["utterance"].unique().sort().equals(attacked)
    assert worst_case(done.rows)["granularity"].null_count() == 0
    pairs = paired_comparisons(done.rows)
    assert not {"white-noise", "telephone"} & {*pairs["first_attack"], *pairs["second_attack"]}


def test_waves_are_replayed_on_other_encoders_and_features_are_not(done):
    replays = done.replays
    assert replays is not None
    assert replays["surface"].unique().to_list() == ["waveform"]
    rows = on_waveform(done.rows)
    # Each of the six cells on the other layer.
    assert len(replays) == len(rows)
    assert all(name.startswith("linear@") for name in replays["target_victim"])
    same = replays.join(
        rows, on=["encoder", "layer", "explainer", "mask_source", "utterance"], nulls_equal=True
    )
    assert len(same) == len(replays)
    assert same["source_success"].equals(same["round_trip_success"].alias("source_success"))


def test_a_resumed_run_has_the_same_rows(done, waveform_values, tmp_path):
    before = done.rows
    folder = shutil.copytree(done.folder, tmp_path / "copy")
    parts = folder.glob("attacks/*/part-*.parquet")
    surfaces = {path: pl.read_parquet(path)["granularity"][0] for path in parts}
    path = next(path for path, granularity in surfaces.items() if granularity is not None)
    path.unlink()
    path_of_corruption = next(p for p, granularity in surfaces.items() if granularity is None)
    path_of_corruption.unlink()
    again = ss.run(waveform_values, out=folder)
    assert without_times(again.rows).equals(without_times(before))


def test_headline_rates_are_those_of_files():
    rows = pl.DataFrame(
        {
            "correct_before": [True, True],
            "success": [True, True],
            "prediction_after": ["sad", "sad"],
            "round_trip_correct": [None, False],
            "round_trip_success": [None, False],
            "round_trip_prediction": [None, "angry"],
        }
    )
    found = headline(rows)
    assert found["correct_before"].to_list() == [True, False]
    assert found["success"].to_list() == [True, False]
    assert found["prediction_after"].to_list() == ["sad", "angry"]
    assert headline(found).equals(found)


def test_budgets_of_each_surface():
    section = BudgetSection(epsilon=[0.5], snr=[30], granularity=["segment", "channel", "frame"])
    features = list(budgets_of(section, "features"))
    assert [one.granularity for one in features] == ["segment", "channel", "frame"]
    assert {(one.epsilon, one.snr, one.segment_frames) for one in features} == {(0.5, None, 10)}
    (wave,) = budgets_of(section, "waveform")
    assert (wave.epsilon, wave.snr, wave.segment_frames) == (None, 30, 320)
    (share,) = budgets_of(BudgetSection(epsilon=[0.002]), "waveform")
    assert (share.epsilon, share.snr) == (0.002, None)


def test_the_waveform_may_have_fewer_utterances_and_other_budgets(waveform_values, tmp_path):
    values = copy.deepcopy(waveform_values) | {"encoder": {"name": "demo"}}
    values["evaluation"] = {"utterances": 6, "waveform_utterances": 2}
    values["budgets"] |= {"waveform_sparsity": [0.5, 1.0], "sparsity": [0.1]}
    values["consistency"] = {"explainer": "gradient", "surface": "features"}
    plan = planned(values, tmp_path)
    ids = {
        step.victim.setting.surface: [one.id for _, part in plan.parts(step) for one in part]
        for step in plan.attacks
    }
    assert len(ids["features"]) == 6
    assert len(ids["waveform"]) == 2
    assert set(ids["waveform"]) < set(ids["features"])
    # Corruptions stand beside attacks on the same recordings.
    for step in plan.corruptions:
        assert [one.id for _, part in plan.parts(step) for one in part] == ids["waveform"]
    shares = {(step.victim.setting.surface, step.budget.sparsity) for step in plan.attacks}
    assert shares == {("features", 0.1), ("waveform", 0.5), ("waveform", 1.0)}
    assert {step.victim.setting.surface for step in plan.floors} == {"features"}


def test_a_surface_that_is_only_corrupted_costs_no_gradient(waveform_values, tmp_path):
    values = copy.deepcopy(waveform_values) | {"encoder": {"name": "demo"}}
    # Frames do not exist on the waveform, which nothing attacks here.
    values["budgets"] = {"granularity": ["frame"]}
    values["attacks"] = [{"name": "oneshot", "surface": "features"}]
    plan = planned(values, tmp_path)
    assert len(plan.corruptions) == 2
    for steps in (plan.attacks, plan.gradients, plan.saliencies, plan.floors):
        assert {step.victim.setting.surface for step in steps} == {"features"}


def test_ratios_of_corruptions_default_to_those_of_the_budgets():
    budgets = BudgetSection(snr=[20, 30])
    assert corruption_settings(CorruptionSection(name="white-noise"), budgets) == [
        {"snr": 20}, {"snr": 30},
    ]  # fmt: skip
    assert corruption_settings(CorruptionSection(name="white-noise", snr=[5]), budgets) == [
        {"snr": 5}
    ]
    assert corruption_settings(CorruptionSection(name="telephone"), budgets) == [{}]
    alone = corruption_settings(CorruptionSection(name="gain"), BudgetSection())
    assert alone == [{"snr": 20.0}]


def test_mask_sources_of_each_surface():
    named = ["waveform", "mlp", "features"]
    assert sources_on("features", named) == ["mlp", "features"]
    assert sources_on("waveform", named) == named
    # A random map does not depend on the victim, but one of frames is another control.
    assert sources_on("features", named, control=True) == ["mlp"]
    assert sources_on("waveform", named, control=True) == ["waveform", "features"]


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"surface": "features"}, "needs the waveform"),
        ({"budgets": {"granularity": ["frame"]}}, r"element \(samples\) or segment"),
        (
            {"surface": "features", "corruptions": [], "budgets": {"waveform_sparsity": 1}},
            r"budgets\.waveform_sparsity needs the waveform",
        ),
        ({"surface": "waveform", "certificates": [{}]}, "certificates bound changes of features"),
        ({"corruptions": [{"name": "white-noise", "snr": 3, "kbps": 1}]}, "kbps"),
        ({"corruptions": [{"name": "telephone", "snr": 3}]}, "snr"),
        ({"corruptions": [{"name": "whit-noise"}]}, "white-noise"),
        ({"corpus": None, "encoder": None, "features": {"store": "x"}}, "holds none"),
    ],
)
def test_studies_that_do_not_fit_are_errors(waveform_values, change, sentence):
    with pytest.raises(SigmaError, match=sentence):
        check_names(parse_study({**waveform_values, **change}))


def test_masks_of_the_waveform_need_its_surface(waveform_values):
    values = copy.deepcopy(waveform_values)
    values |= {"surface": "features", "corruptions": [], "budgets": {}}
    values["attacks"][0]["mask_sources"] = ["waveform"]
    with pytest.raises(ConfigError, match="not attacked in this study"):
        check_names(parse_study(values))


def test_a_store_with_its_corpus_serves_the_waveform(done, small_corpus, tmp_path: Path):
    victim, store = the_victim(done, str(done.rows["layer"][0]))
    (folder,) = [
        path for path in (done.folder / "victims").iterdir()
        if str(ss.load_victim(path).card.encoder["layer"]) == str(store.card["encoder"]["layer"])
    ]  # fmt: skip
    run = ss.run(
        {
            "name": "store",
            "features": {"store": str(store.folder)},
            "corpus": {"name": "manifest", "root": str(small_corpus)},
            "surface": "waveform",
            "victims": [{"load": str(folder)}],
            "consistency": {"explainer": None},
            "attacks": [{"name": "oneshot"}],
            "evaluation": {"ids": list(victim.fold.test[:1]), "exemplars": 0},
            "executor": {"name": "inline"},
        },
        out=tmp_path / "run",
    )
    assert run.failures == []
    assert run.rows["round_trip_success"].null_count() == 0


def test_exemplars_are_what_the_rows_measured(done: ss.Study) -> None:
    found = load_inputs(done.folder).exemplars
    (one,) = [exemplar for exemplar in found if exemplar.surface == "waveform"]
    assert {exemplar.surface for exemplar in found} == {"features", "waveform"}
    same = [pl.col(name).eq_missing(pl.lit(getattr(one, name))) for name in _SHOWN]
    rows = on_waveform(done.rows).filter(pl.all_horizontal(same)).to_dicts()
    row = next(
        row
        for row in rows
        if row["round_trip_prediction"] == one.prediction_after
        and row["snr"] == pytest.approx(one.snr, abs=0.05)
    )
    assert row["snr"] >= SNR - 0.05
    # The perturbed recording is the wave that the attack made, at 16 bits.
    assert one.perturbed is not None
    delta = one.perturbed / 32_768 - one.waveform
    assert np.abs(delta - one.delta[:, 0]).max() <= 0.5 / 32_768 + 1e-7
    assert (one.delta[~one.mask] == 0).all()
    assert one.mask.sum() == row["budget_elements"] == (one.delta != 0).sum()
    assert one.saliency_before.any()
    page = Path(done.report).read_text("utf-8")
    assert page.count("data:audio/flac") >= 3
    assert '<section id="waveform">' in page


def test_exemplars_of_kept_perturbations_attack_nothing_again(
    done: ss.Study,
    shortened: Callable[[], AbstractContextManager[None]],
    waveform_values: dict[str, Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    run = tmp_path / "run"
    shutil.copytree(done.folder, run)
    files = {path.name: path.read_bytes() for path in (run / "exemplars").iterdir()}
    shutil.rmtree(run / "exemplars")
    monkeypatch.delattr("sigma_ser.study.exemplars.run_attack")
    with shortened():
        ss.run(waveform_values, out=run)
    assert {path.name: path.read_bytes() for path in (run / "exemplars").iterdir()} == files


def test_fewer_utterances_and_victims_on_the_waveform(waveform_values, tmp_path):
    values = copy.deepcopy(waveform_values)
    values["evaluation"] |= {"utterances": 4, "waveform_utterances": 1, "replay": False}
    values["victims"] += [{"head": "mlp", "surface": "features"}]
    values["encoder"]["layer"] = [-1]
    values["budgets"]["waveform_sparsity"] = 0.2
    config = parse_study(values).config
    inputs = open_inputs(config, RunLayout(tmp_path))
    plan = plan_study(config, inputs, None)
    sizes = {
        (step.victim.setting.surface, step.victim.name, plan.utterances(step))
        for step in plan.attacks
    }
    assert sizes == {("features", "linear", 4), ("features", "mlp", 4), ("waveform", "linear", 1)}
    shares = {(step.victim.setting.surface, step.budget.sparsity) for step in plan.attacks}
    assert shares == {("features", SPARSITY), ("waveform", 0.2)}
    # Maps for the waveform are made of its utterances only, also those of the features.
    (masked,) = (one for one in plan.attacks if one.mask_source == "features")
    (origin,) = masked.mask.origins
    assert plan.utterances(origin) == 1
    heard = {one.id for _, part in plan.parts(masked) for one in part}
    native = next(one for one in plan.attacks if one.victim.setting.surface == "features")
    assert heard < {one.id for _, part in plan.parts(native) for one in part}
    # Other workers would wait for the long tasks through the encoder if they were begun last.
    (tasks,) = (tasks for name, tasks in stages(plan, RunLayout(tmp_path)) if name == "attacks")
    through = [task.step.victim.on_features is not None for task in tasks]
    assert through == sorted(through, reverse=True)
    assert {True, False} == set(through)
