"""Studies with certificates: their rows, their place in the plan, and the page."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl
import pytest

import sigma_ser as ss
from sigma_ser.core.errors import ConfigError, UnknownNameError
from sigma_ser.report.certificates import brackets
from sigma_ser.runs.garbage import find_garbage
from sigma_ser.study.certificates import certificate_schema
from sigma_ser.study.loading import parse_study
from sigma_ser.study.name_checks import check_names

BUDGET = {"granularity": "element", "epsilon": 0.5}
PLACE = {
    "corpus": "c", "protocol": "p", "encoder": "e", "layer": "1", "victim": "linear", "fold": "f",
}  # fmt: skip


@pytest.mark.slow
def test_a_study_writes_certificates_and_shows_them(
    small_study: dict[str, Any], tmp_path: Path
) -> None:
    small_study["victims"] = small_study["victims"][:1]
    small_study["attacks"] = [{"name": "dual-averaging", "steps": 10}]
    small_study["budgets"] = {"sparsity": [0.01, 0.1], "epsilon": [0.5]}
    small_study["certificates"] = [{}, {"method": "frame-ablation", "samples": 20}]
    study = ss.run(small_study, out=tmp_path / "run")
    found = study.certificates
    assert found is not None
    assert found.columns == certificate_schema().names
    utterances = study.rows["utterance"].n_unique()
    assert found.height == 2 * 2 * utterances
    exact = found.filter(pl.col("method") == "affine")
    assert exact["proven"].all()
    both = exact.join(
        study.rows.filter(pl.col("success") & pl.col("correct_before")),
        on=["utterance", "sparsity", "epsilon"],
    )
    assert not both["certified"].any()
    page = study.report.read_text("utf-8")
    assert 'id="certificates"' in page
    assert "please report this" not in page
    assert not find_garbage(study.layout).paths
    without = ss.run({**small_study, "certificates": []}, out=tmp_path / "run")
    assert without.certificates is None
    assert 'id="certificates"' not in without.report.read_text("utf-8")


@pytest.mark.parametrize(
    ("section", "error", "message"),
    [
        ({"method": "afine"}, UnknownNameError, "affine"),
        ({"samples": 3}, ConfigError, "need the key 'method'"),
    ],
)
def test_a_wrong_section_is_found_before_anything_is_computed(
    small_study: dict[str, Any], section: dict[str, Any], error: type[Exception], message: str
) -> None:
    small_study["certificates"] = [section]
    with pytest.raises(error, match=message):
        check_names(parse_study(small_study, []))


def test_brackets_count_every_utterance_once() -> None:
    names = ["a", "b", "c", "d"]
    here = {**PLACE, **BUDGET, "sparsity": 0.1}
    fooled = {("b", "two"), ("d", "one")}
    rows = pl.DataFrame(
        {
            **here,
            "utterance": name,
            "attack": attack,
            "correct_before": name != "d",
            "success": (name, attack) in fooled,
        }
        for name in names
        for attack in ("one", "two")
    )
    bounds = pl.DataFrame(
        {
            **here,
            "utterance": name,
            "correct": name != "d",
            "method": "affine",
            "proven": True,
            "certified": name == "a",
        }
        for name in names
    )
    (one,) = brackets(rows, bounds)
    assert (one.certified, one.fooled, one.undecided, one.wrong) == (1, 1, 1, 1)
    assert (one.certified_accuracy, one.attacked_accuracy) == (0.25, 0.5)
    assert one.contradictions == 0
    contradicted = bounds.with_columns(certified=pl.col("utterance") == "b")
    assert brackets(rows, contradicted)[0].contradictions == 1
    assert brackets(rows, None) == []
