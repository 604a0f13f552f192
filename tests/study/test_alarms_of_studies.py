"""Studies with alarms: scores of kept perturbations, their table, the page, and wrong sections."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl
import pytest
from sklearn.metrics import roc_auc_score

import sigma_ser as ss
from sigma_ser.core.errors import ConfigError, SigmaError, UnknownNameError
from sigma_ser.core.rows import CELL_COLUMNS
from sigma_ser.corpora.corpus import load_corpus
from sigma_ser.corpora.folds import make_folds
from sigma_ser.evaluate.alarm.table import EVASION, score_schema
from sigma_ser.report.inputs import load_inputs
from sigma_ser.report.paper_tables import paper_tables
from sigma_ser.runs.garbage import find_garbage
from sigma_ser.study.loading import parse_study
from sigma_ser.study.name_checks import check_names
from sigma_ser.study.samples import alarm_parts, attacked_parts


@pytest.mark.slow
def test_a_study_scores_its_attacks_and_shows_the_figures(
    small_study: dict[str, Any], tmp_path: Path
) -> None:
    small_study["victims"] = small_study["victims"][1:]
    small_study["attacks"] = [
        {"name": "dual-averaging", "steps": 5, "explainers": ["gradient"], "scopes": [4]},
        {"name": "random"},
    ]
    small_study["budgets"] = {"sparsity": [0.1], "epsilon": [3.0]}
    small_study["alarm"] = {"steps": 2}
    small_study["consistency"] = {"explainer": None}
    small_study["evaluation"] = {"batch_size": 32, "exemplars": 0}
    study = ss.run(small_study, out=tmp_path / "run")
    assert not study.failures
    found = study.alarms
    assert found is not None
    assert found.columns == score_schema().names
    cells = study.rows.select("attack", "explainer").n_unique() + 1
    assert found.height == 3 * cells * study.rows["utterance"].n_unique()
    # Success is that of the rows, and a clean utterance has one score for all attacks.
    same = [*CELL_COLUMNS, "utterance", "success", "correct_before"]
    attacked = found.filter(pl.col("attack") != EVASION)
    assert attacked.select(same).unique().height == study.rows.height
    assert attacked.join(study.rows, on=same, nulls_equal=True).height == attacked.height
    assert (
        found.group_by("alarm", "utterance")
        .agg(pl.col("score_before").n_unique() == 1)["score_before"]
        .all()
    )
    table = pl.read_csv(study.layout.analysis / "alarm.csv")
    right = attacked.filter("correct_before", alarm="map", attack="dual-averaging").filter(
        pl.col("explainer").is_null()
    )
    after = right.filter("success")["score_after"]
    truth = [0] * right.height + [1] * len(after)
    expected = roc_auc_score(truth, [*right["score_before"], *after])
    line = table.filter(alarm="map", attack="dual-averaging").filter(pl.col("explainer").is_null())
    assert line["auroc"].item() == pytest.approx(expected)
    (paper,) = paper_tables(study.rows, ["alarm"], detections=load_inputs(study.folder).detections)
    assert paper.lines[0].entries[1].value == pytest.approx(expected)
    page = study.report.read_text("utf-8")
    assert 'id="alarms"' in page
    assert "attack that knows the alarm" in page
    assert not find_garbage(study.layout).paths
    del small_study["alarm"]
    without = ss.run(small_study, out=tmp_path / "run")
    assert without.alarms is None
    assert 'id="alarms"' not in without.report.read_text("utf-8")
    assert find_garbage(without.layout).paths


@pytest.mark.parametrize(
    ("section", "error", "message"),
    [
        ({"explainer": "gradent"}, UnknownNameError, "gradient"),
        ({"fitted_on": ["dual"]}, UnknownNameError, "dual-averaging"),
        ({"stps": 3}, ConfigError, "steps"),
        ({"alarm": 3}, ConfigError, "alarm"),
    ],
)
def test_a_wrong_section_is_found_before_anything_is_computed(
    small_study: dict[str, Any], section: dict[str, Any], error: type[SigmaError], message: str
) -> None:
    small_study["alarm"] = section
    with pytest.raises(error, match=message):
        check_names(parse_study(small_study, []))


def test_alarms_are_fitted_on_utterances_that_are_not_attacked(
    small_corpus: Path, small_study: dict[str, Any]
) -> None:
    corpus = load_corpus("manifest", small_corpus)
    fold = make_folds(corpus, "speaker-kfold", folds=3)[0]
    few = {"utterances": 4}
    for part, inside in (("validation", fold.validation), ("test", fold.test)):
        study = parse_study(small_study | {"alarm": {"part": part}, "evaluation": few}, []).config
        attacked = attacked_parts(study, corpus, fold, "features")
        of_classes, fitting = alarm_parts(study, corpus, fold, attacked)
        names = {one.id for one in fitting}
        assert names
        assert names <= set(inside)
        assert not names & {one.id for one in attacked[0]}
        assert {one.id for one in of_classes} <= set(fold.train)
    every = parse_study(small_study | {"alarm": {"part": "test"}}, []).config
    attacked = attacked_parts(every, corpus, fold, "features")
    with pytest.raises(ConfigError, match=r"attack fewer with evaluation\.utterances"):
        alarm_parts(every, corpus, fold, attacked)


def test_alarms_need_features_that_are_attacked(small_study: dict[str, Any]) -> None:
    small_study |= {"surface": "waveform", "alarm": {}}
    with pytest.raises(ConfigError, match="alarms notice changes of features"):
        parse_study(small_study, [])
