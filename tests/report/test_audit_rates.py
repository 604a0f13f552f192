"""Rates and sentences of an audit, against counts by hand on planted rows."""

from __future__ import annotations

import json
from importlib.resources import files
from typing import Any

import jsonschema
import polars as pl
import pytest

from sigma_ser.report.audit_page import page_values
from sigma_ser.report.audit_rates import (
    attack_lines,
    corruption_lines,
    group_lines,
    wrong_anyway_line,
)
from sigma_ser.report.audit_sentences import verdict, wrong_anyway
from sigma_ser.report.page import render

SIZE = 10


def planted(
    attack: str, flips: int, *, surface: str = "features", snr: float | None = None,
    natural: bool = False, unrecognised: int = 0, first: int = 0,
) -> pl.DataFrame:  # fmt: skip
    """Rows of `SIZE` utterances, of which `flips` from `first` on are misclassified afterwards."""
    flipped = [first <= n < first + flips for n in range(SIZE)]
    on_waveform = surface == "waveform"
    right = [n >= unrecognised for n in range(SIZE)]
    same = {
        "corpus": "demo", "protocol": "p", "fold": "0", "encoder": "e", "layer": "-1",
        "victim": "linear", "victim_seed": 0, "attack_seed": 0, "surface": surface,
        "attack": attack, "attack_settings": f"{attack}()", "explainer": None, "mask_source": None,
        "scope": None, "granularity": None if natural else "element",
        "sparsity": None if natural else 0.1, "epsilon": None if on_waveform else 0.5,
        "budget_snr": snr, "topk_intersection": None, "topk_intersection_floor": None,
    }  # fmt: skip
    return pl.DataFrame(
        {
            **{name: [value] * SIZE for name, value in same.items()},
            "utterance": [f"u{n}" for n in range(SIZE)],
            "label": ["angry"] * SIZE, "speaker": ["s"] * SIZE,
            "correct_before": [True] * SIZE if on_waveform else right,
            "success": [False] * SIZE if on_waveform else flipped,
            "round_trip_correct": right if on_waveform else [None] * SIZE,
            "round_trip_success": flipped if on_waveform else [None] * SIZE,
        },
        infer_schema_length=None,
    )  # fmt: skip


@pytest.fixture(scope="module")
def rows() -> pl.DataFrame:
    """An attack on each surface, and corruptions of recordings of which two are not recognised."""
    natural: dict[str, Any] = {"surface": "waveform", "natural": True, "unrecognised": 2}
    tables = [
        planted("pgd", 4),
        planted("pgd", 6, surface="waveform", snr=30.0),
        planted("pgd", 9, surface="waveform", snr=20.0),
        planted("white-noise", 3, snr=20.0, **natural),  # one of which is recognised
        planted("white-noise", 0, snr=30.0, **natural),
        planted("telephone", 3, first=4, **natural),
    ]
    return pl.concat(tables, how="diagonal_relaxed")


def test_corruptions_count_recordings_that_are_recognised_unchanged(rows: pl.DataFrame) -> None:
    lines = corruption_lines(rows)
    found = [(one["corruption"], one["snr"], one["misclassified"], one["n"]) for one in lines]
    assert found == [
        ("telephone", None, 3, 8),
        ("white-noise", 20, 1, 8),
        ("white-noise", 30, 0, 8),
    ]
    assert [one["rate"] for one in lines] == [3 / 8, 1 / 8, 0]
    every = wrong_anyway_line(rows)
    assert every is not None
    assert (every["misclassified"], every["n"]) == (4, 8)
    assert every["low"] < 0.5 < every["high"]


def test_without_corruptions_nothing_is_stated(rows: pl.DataFrame) -> None:
    attacked = rows.filter(pl.col("granularity").is_not_null())
    assert corruption_lines(attacked) == []
    assert wrong_anyway_line(attacked) is None
    assert wrong_anyway({"corruptions": [], "wrong_anyway": None}) == ""


def test_surfaces_stay_apart_and_corruptions_are_no_attacks(rows: pl.DataFrame) -> None:
    lines = attack_lines(rows)
    found = [(one["surface"], one["epsilon"], one["budget_snr"], one["flipped"]) for one in lines]
    assert found == [
        ("features", 0.5, None, 4), ("waveform", None, 30, 6), ("waveform", None, 20, 9)
    ]  # fmt: skip
    groups = group_lines(rows, "label")
    assert [(one["surface"], one["success"]) for one in groups] == [
        ("features", 0.4), ("waveform", 0.6), ("waveform", 0.9)
    ]  # fmt: skip


def test_the_sentences_say_what_happens_with_and_without_an_attacker(rows: pl.DataFrame) -> None:
    sentence = verdict(rows, 0.7, {"features": None, "waveform": {"signs": ["random"]}})
    assert sentence.startswith("Gradients of this recogniser on the waveform are masked")
    assert "It recognises the emotions with 70 % UAR, and changing 10 % of its feature" in sentence
    assert "misclassifies 4 of 10 utterances (40 %)." in sentence
    # The smallest budget that misclassifies half of them.
    assert sentence.endswith(
        "On the audio itself, changing 10 % of the samples at a signal-to-noise ratio of at least "
        "30 dB misclassifies 6 of 10 utterances (60 %)."
    )
    anyway = {"corruptions": corruption_lines(rows), "wrong_anyway": wrong_anyway_line(rows)}
    assert wrong_anyway(anyway) == (
        "Without any attacker, the model misclassifies 3 of 8 recordings (38 %) after a telephone "
        "line, the most harmful of 3 ordinary changes, and 4 of 8 (50 %) after at least one of "
        "them."
    )
    harmless = corruption_lines(rows.filter(pl.col("budget_snr") == 30))
    every = wrong_anyway_line(rows.filter(pl.col("budget_snr") == 30))
    sentence = wrong_anyway({"corruptions": harmless, "wrong_anyway": every})
    assert sentence.startswith("No ordinary change of the recordings, such as steady hiss")
    assert "any of the 8 recordings that it recognises" in sentence


def test_the_page_shows_each_surface_and_what_is_wrong_anyway(rows: pl.DataFrame) -> None:
    record: dict[str, Any] = {
        "format": 1, "verdict": None, "findings": [], "criteria": [],
        "gradient_check": {"masked": False, "signs": [], "surfaces": {"features": {}}},
        "certificates": [], "attacks": attack_lines(rows),
        "corruptions": corruption_lines(rows), "wrong_anyway": wrong_anyway_line(rows),
        "groups": group_lines(rows, "label"),
        "model": {
            "name": "linear", "uar": 0.7, "uar_low": 0.6, "uar_high": 0.8, "test_utterances": 10,
            "class_names": ["angry"], "encoder": {},
        },
        "data": {
            "name": "demo", "attacked_utterances": 10, "classified_correctly_before": 10,
            "leakage": [],
        },
        "threat_model": {"surface": "both", "text": "Text."},
        "versions": {}, "hashes": {"criteria": None, "rows": "0", "study": "0"},
        "clauses": [], "limits": ["Limits."],
    }  # fmt: skip
    schema = json.loads(files("sigma_ser.report").joinpath("audit.schema.json").read_text("utf-8"))
    jsonschema.validate(record, schema)
    page = render("audit.html", page_values(record))
    natural = page[page.index('id="natural"') : page.index('id="groups"')]
    assert natural.index("a telephone line") < natural.index("steady hiss (white noise), 20 dB")
    assert "at least one of these" in natural
    lead = page[: page.index('id="attacks"')]
    assert (
        "An attacker who may change 10 % of its feature values by at most 0.5 standard deviations "
        "gets 4 of 10 recordings misclassified (40 %). An attacker who may change 10 % of the "
        "samples at a signal-to-noise ratio of at least 30 dB gets 6 of 10 recordings"
    ) in lead
    attacks = page[page.index('id="attacks"') : page.index('id="natural"')]
    assert attacks.index("On the speech features") < attacks.index("On the audio itself")
    assert "signal-to-noise ratio of at least 30" in attacks
    assert "no bound is known for changes of the audio" in attacks
    alone = page_values({**record, "corruptions": [], "wrong_anyway": None})
    assert 'id="natural"' not in render("audit.html", alone)
