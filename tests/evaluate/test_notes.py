"""Degenerate measurements are named, and sound ones are not."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch

import sigma_ser as ss
from sigma_ser.core.rows import CONSISTENCY_METRICS, schema
from sigma_ser.evaluate.consistency.floor import consistency_floor, random_perturbation
from sigma_ser.evaluate.consistency.measures import consistency
from sigma_ser.evaluate.notes import CODES, NoteIndex, degenerate
from sigma_ser.statistics.classification import uar_interval
from sigma_ser.victims.heads.linear import Linear

CELL = {
    "corpus": "demo", "protocol": "p", "fold": "0", "encoder": "e", "layer": "-1", "victim": "mlp",
    "victim_seed": 0, "attack": "pgd", "attack_settings": "pgd()", "attack_seed": 0,
    "surface": "features", "granularity": "element", "sparsity": 0.01, "epsilon": 0.5,
}  # fmt: skip


def cell(
    successes: list[bool],
    value: Any = 0.8,
    floor: Any = 0.9,
    *,
    spread: float = 0.02,
    explained: str | None = "integrated-gradients",
    **given: Any,
) -> list[dict[str, Any]]:
    """One cell; consistency and floor vary over the utterances, and stay within [-1, 1]."""
    rng = np.random.default_rng(3)
    lines = []
    for number, success in enumerate(successes):
        line: dict[str, Any] = dict.fromkeys(schema().names)
        line |= CELL | {"utterance": f"u{number}", "correct_before": True, "success": success}
        line |= {"l0": 5, "consistency_explainer": explained}
        if explained is not None:
            for name in ("topk_intersection", "spearman", "cosine"):
                line[name] = value - abs(rng.normal(0, spread)) if spread else value
                line[f"{name}_floor"] = floor - abs(rng.normal(0, spread)) if spread else floor
        lines.append(line | given)
    return lines


def frame(*cells: list[dict[str, Any]]) -> pl.DataFrame:
    empty = pl.DataFrame(schema().empty_table())
    return pl.DataFrame([line for one in cells for line in one], empty.schema)


def victim(hits: int, classes: int = 4, **given: Any) -> dict[str, Any]:
    """The line of a victim with `hits` of 10 correct utterances in each class."""
    confusion = [
        [hits if row == column else (10 - hits) if column == (row + 1) % classes else 0
         for column in range(classes)] for row in range(classes)
    ]  # fmt: skip
    labels = np.repeat(np.arange(classes), 10)
    predicted = np.array([(k + (n >= hits)) % classes for k in range(classes) for n in range(10)])
    low, high = uar_interval(labels, predicted)
    scores = {"uar": hits / 10, "uar_low": low, "uar_high": high, "confusion": confusion}
    return {"name": "mlp", "fold": "0", **scores, **given}


SOME = [True, False] * 12


def codes(rows: pl.DataFrame, *victims: dict[str, Any]) -> list[str]:
    return degenerate(rows, victims)["code"].to_list()


def test_a_sound_run_has_no_notes() -> None:
    rows = frame(cell(SOME), cell([*SOME[1:], True], attack="oneshot"))
    assert codes(rows, victim(8)) == []
    assert codes(rows.clear(), victim(8)) == []


@pytest.mark.parametrize(("hits", "named"), [(8, False), (5, False), (3, True), (1, True)])
def test_a_victim_at_or_below_chance(hits: int, named: bool) -> None:
    notes = degenerate(frame(cell(SOME)), [victim(hits)])
    assert (notes["code"].to_list() == ["at-chance"]) == named
    if named:
        assert "with 4 classes" in notes["text"][0]
        assert notes["fold"][0] == "0"


def test_chance_counts_the_classes_that_occur() -> None:
    """A victim that always gives one answer reaches 1 / 2 with two of its four classes."""
    confusion = [[10, 0, 0, 0], [10, 0, 0, 0], [0] * 4, [0] * 4]
    line = victim(8) | {"uar": 0.5, "uar_low": 0.5, "uar_high": 0.5, "confusion": confusion}
    assert codes(frame(cell(SOME)), line) == ["at-chance"]


def test_a_victim_of_another_corpus_is_not_named() -> None:
    lines = [victim(2, corpus="demo"), victim(2, corpus="other")]
    assert codes(frame(cell(SOME)), *lines) == ["at-chance"]


@pytest.mark.parametrize(("utterances", "named"), [(0, True), (19, True), (20, False)])
def test_few_recordings_and_not_few_trials(utterances: int, named: bool) -> None:
    """Seeds add trials and no recordings; misclassified utterances do not count."""
    once = cell(([True, False] * 10)[:utterances] + [True] * 30)
    for line in once[utterances:]:
        line["correct_before"] = False
    rows = frame(once, [line | {"attack_seed": 1} for line in once])
    assert ("too-few" in codes(rows)) == named


def test_every_attack_or_none_at_a_budget() -> None:
    n = 24
    rows = frame(
        cell([False] * n, sparsity=0.001), cell([False] * n, sparsity=0.001, attack="b"),
        cell(SOME, sparsity=0.01), cell([True] * n, sparsity=0.01, attack="b"),
        cell([True] * n, sparsity=0.1), cell([True] * n, sparsity=0.1, attack="b"),
        cell([False] * n, sparsity=0.1, attack="random", value=0.9),
    )  # fmt: skip
    notes = degenerate(rows)
    assert dict(notes.select("sparsity", "code").rows()) == {
        0.001: "no-attack-succeeds",
        0.1: "every-attack-succeeds",
    }
    assert notes["attack"].null_count() == 2
    assert set(notes["measures"]) == {"asr"}


def test_the_gradient_of_an_affine_head_is_a_constant_explanation() -> None:
    """Its maps, measured as a study does, against those of input x gradient, which differ."""
    head = ss.wrap(Linear(6, 3).eval())
    x = torch.randn(24, 9, 6, generator=torch.Generator().manual_seed(0))
    batch = ss.FeatureBatch(x, torch.full((24,), 9))
    labels = head(batch.x, batch.lengths).argmax(1)
    budget = ss.Budget(sparsity=0.1, epsilon=1.0)
    attacked = random_perturbation(head, batch, budget, seeds=torch.arange(24))
    named = {}
    for explainer in ("gradient", "input-x-gradient"):
        scores = consistency(explainer, head, batch, attacked, labels, budget, frame_seconds=0.02)
        scores |= consistency_floor(explainer, head, batch, labels, budget, frame_seconds=0.02)
        lines = cell(SOME, explained=explainer)
        for number, line in enumerate(lines):
            line |= {k: v[number].item() for k, v in scores.items() if k in line}
        named[explainer] = degenerate(frame(lines))
    (note,) = named["gradient"].to_dicts()
    assert note["code"] == "constant-explainer"
    assert note["measures"].split(",") == list(CONSISTENCY_METRICS)
    assert "gradient" in note["text"]
    assert "constant-explainer" not in named["input-x-gradient"]["code"].to_list()


def test_unchanged_utterances_do_not_make_an_explanation_constant() -> None:
    kept = cell(SOME, value=1.0, floor=1.0, spread=0.0, l0=0)
    assert "constant-explainer" not in codes(frame(kept))
    assert "constant-explainer" in codes(frame([*kept[1:], kept[0] | {"l0": 1}]))
    moved = kept[0] | {"l0": 1, "cosine": 1 - 1e-6}
    assert "constant-explainer" not in codes(frame([*kept[1:], moved]))


@pytest.mark.parametrize(("zeros", "named"), [(2, False), (3, True)])
def test_maps_of_zeros_on_more_than_a_tenth(zeros: int, named: bool) -> None:
    lines = cell(SOME)
    for line in lines[:zeros]:
        line |= {"cosine": math.nan, "spearman": math.nan}
    notes = degenerate(frame(lines))
    assert (notes["code"].to_list() == ["zero-maps"]) == named


def test_a_consistency_at_its_floor_names_the_measure() -> None:
    lines = cell(SOME, value=0.8, floor=0.8, spread=0.05)
    for line in lines:
        line["cosine"] = line["cosine_floor"] - 0.2
    random = cell(SOME, value=0.8, floor=0.8, attack="random")
    notes = degenerate(frame(lines, random))
    assert notes["code"].to_list() == ["at-floor"]
    assert notes["measures"][0] == "topk_intersection,spearman"
    assert notes["attack"][0] == "pgd"


def test_seeds_do_not_move_a_consistency_from_its_floor() -> None:
    """Ten seeds of the same outcomes give the same interval as one."""
    lines = cell(SOME, spread=0.0)
    for number, line in enumerate(lines):
        line["cosine"] = line["cosine_floor"] - 0.03 + (0.1 if number % 2 else -0.1)
    once = codes(frame(lines))
    many = codes(frame(*([line | {"attack_seed": s} for line in lines] for s in range(10))))
    assert once == many == ["at-floor"]


def test_a_note_about_all_cells_is_one_line_and_is_found_from_each() -> None:
    few = cell(SOME[:10])
    rows = frame(
        few, [line | {"attack": "b", "explainer": "gradient", "scope": 8} for line in few],
        [line | {"victim": "cnn"} for line in cell(SOME)],
    )  # fmt: skip
    notes = degenerate(rows)
    assert notes["code"].to_list() == ["too-few"]
    assert notes.select("victim", "attack", "sparsity").row(0) == ("mlp", None, None)
    index = NoteIndex(notes)
    for name, expected in (("mlp", ["too-few"]), ("cnn", [])):
        for line in rows.filter(pl.col("victim") == name).to_dicts():
            assert [note["code"] for note in index.of(line)] == expected
            assert [note["code"] for note in index.of(line, "spearman")] == expected


def test_a_note_about_a_measure_stands_beside_it_alone() -> None:
    lines = cell([False] * 24, value=0.8, floor=0.8, spread=0.05)
    for line in lines:
        line["cosine"] = line["cosine_floor"] - 0.2
    index = NoteIndex(degenerate(frame(lines)))
    found = {
        column: [note["code"] for note in index.of(lines[0], column)]
        for column in ("asr", "spearman", "cosine")
    }
    assert found == {"asr": ["no-attack-succeeds"], "spearman": ["at-floor"], "cosine": []}
    assert {note["code"] for note in index.lines} <= set(CODES)
