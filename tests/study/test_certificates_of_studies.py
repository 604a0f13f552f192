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
NO_MASK = {"explainer": None, "mask_source": None, "scope": None}
MASK = {"explainer": "gradient", "mask_source": "own", "scope": 4}
TYPES = {"explainer": pl.String, "mask_source": pl.String, "scope": pl.Int64}
PLACE = {
    "corpus": "c", "protocol": "p", "encoder": "e", "layer": "1", "victim": "linear", "fold": "f",
}  # fmt: skip


@pytest.mark.slow
def test_a_study_writes_certificates_and_shows_them(
    small_study: dict[str, Any], tmp_path: Path
) -> None:
    small_study["victims"] = small_study["victims"][:1]
    inside = {"explainers": ["gradient"], "scopes": [1, 4]}
    small_study["attacks"] = [{"name": "dual-averaging", "steps": 10, **inside}]
    small_study["budgets"] = {"sparsity": [0.01, 0.1], "epsilon": [0.5]}
    small_study["certificates"] = [inside, {"method": "frame-ablation", "samples": 20}]
    study = ss.run(small_study, out=tmp_path / "run")
    found = study.certificates
    assert found is not None
    assert found.columns == certificate_schema().names
    utterances = study.rows["utterance"].n_unique()
    assert found.height == 2 * (3 + 1) * utterances
    exact = found.filter(pl.col("method") == "affine")
    assert exact["proven"].all()
    both = exact.join(
        study.rows.filter(pl.col("success") & pl.col("correct_before")),
        on=["utterance", "sparsity", "epsilon", "explainer", "mask_source", "scope"],
        nulls_equal=True,
    )
    assert both["scope"].n_unique() == 3
    assert not both["certified"].any()
    # A larger mask allows more, and no mask allows everything.
    margins = exact.pivot("scope", index=["utterance", "sparsity"], values="margin")
    assert (margins["null"] <= margins["4"] + 1e-5).all()
    assert (margins["4"] <= margins["1"] + 1e-5).all()
    assert (margins["null"] < margins["1"]).any()
    page = study.report.read_text("utf-8")
    assert "<td>gradient ×4</td>" in page
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
        ({"native": False}, ConfigError, "the certificate runs nowhere"),
        ({"explainers": ["gradent"]}, UnknownNameError, "gradient"),
        ({"explainers": ["gradient"], "mask_sources": ["x"]}, ConfigError, "the certificate takes"),
    ],
)
def test_a_wrong_section_is_found_before_anything_is_computed(
    small_study: dict[str, Any], section: dict[str, Any], error: type[Exception], message: str
) -> None:
    small_study["certificates"] = [section]
    with pytest.raises(error, match=message):
        check_names(parse_study(small_study, []))


def test_brackets_count_every_utterance_once() -> None:
    fooled = {("b", "two"), ("d", "one")}
    rows = _rows("abcd", ("one", "two"), fooled, NO_MASK)
    bounds = _bounds("abcd", "a", NO_MASK)
    (one,) = brackets(rows, bounds)
    assert (one.certified, one.fooled, one.undecided, one.wrong) == (1, 1, 1, 1)
    assert (one.certified_accuracy, one.attacked_accuracy) == (0.25, 0.5)
    assert one.contradictions == 0
    contradicted = bounds.with_columns(certified=pl.col("utterance") == "b")
    assert brackets(rows, contradicted)[0].contradictions == 1
    assert brackets(rows, None) == []


def test_a_bound_inside_a_mask_is_compared_with_attacks_inside_it() -> None:
    other = {**MASK, "scope": 8}
    rows = pl.concat(
        [
            _rows("abc", ("one",), {("a", "one")}, NO_MASK),
            _rows("abc", ("one",), {("b", "one")}, MASK),
            _rows("abc", ("one",), {("c", "one")}, other),
        ]
    )
    bounds = pl.concat([_bounds("abc", "", NO_MASK), _bounds("abc", "ac", MASK)])
    free, inside = brackets(rows, bounds)
    # An attack inside a mask is an attack under the budget, but not the other way round.
    assert (free.mask, free.fooled, free.certified) == ("", 3, 0)
    assert (inside.mask, inside.fooled, inside.certified) == ("gradient ×4", 1, 2)
    assert inside.contradictions == 0


def _rows(
    names: str, attacks: tuple[str, ...], fooled: set[tuple[str, str]], mask: dict[str, Any]
) -> pl.DataFrame:
    """Rows of some attacks; utterance `d` is misclassified from the start."""
    lines = [
        {
            **PLACE,
            **BUDGET,
            **mask,
            "sparsity": 0.1,
            "surface": "features",
            "utterance": name,
            "attack": attack,
            "correct_before": name != "d",
            "success": (name, attack) in fooled,
        }
        for name in names
        for attack in attacks
    ]
    return pl.DataFrame(lines, schema_overrides=TYPES)


def _bounds(names: str, certified: str, mask: dict[str, Any]) -> pl.DataFrame:
    lines = [
        {
            **PLACE,
            **BUDGET,
            **mask,
            "sparsity": 0.1,
            "utterance": name,
            "correct": name != "d",
            "method": "affine",
            "proven": True,
            "certified": name in certified,
        }
        for name in names
    ]
    return pl.DataFrame(lines, schema_overrides=TYPES)
