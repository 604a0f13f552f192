"""Claims about masked attacks: figures of plain loops, and verdicts where the truth is known."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import product
from typing import Any

import numpy as np
import polars as pl
import pytest

from sigma_ser.core.rows import schema
from sigma_ser.evaluate.claims import claims

VICTIMS, ATTACKS, UTTERANCES = ("cnn", "mlp"), ("dual-averaging", "pgd"), 60
# Chance of success and consistency without a mask, in the own, another victim's and a random mask.
KINDS = {"native": (0.8, 0.5), "own": (0.75, 0.7), "others": (0.7, 0.75), "random": (0.2, 0.9)}


def rows_of(kinds: Mapping[str, tuple[float, float]] = KINDS, corpus: str = "tess") -> pl.DataFrame:
    """Rows in which each kind of mask has its chance of success and its consistency."""
    rng = np.random.default_rng(0)
    ease = rng.random(UTTERANCES)
    lines: list[dict[str, Any]] = []
    for victim, attack, (kind, (chance, cosine)) in product(VICTIMS, ATTACKS, kinds.items()):
        masked = kind != "native"
        source = {"others": VICTIMS[victim == VICTIMS[0]]}.get(kind, "own")
        passes, of_map = (8, 6) if masked else (20, 0)
        lines += [
            {
                "corpus": corpus, "protocol": "p", "fold": "f", "encoder": "e", "layer": "1",
                "surface": "features", "victim": victim, "victim_seed": 0, "attack_seed": 0,
                "attack": attack, "attack_settings": attack, "granularity": "element",
                "sparsity": 0.01, "epsilon": 1.0, "utterance": f"u{number}",
                "explainer": {"native": None, "random": "random"}.get(kind, "gradient"),
                "mask_source": source if masked else None, "scope": 8 if masked else None,
                "correct_before": number % 10 > 0, "success": bool(ease[number] < chance),
                "prediction_before": "a", "prediction_after": "b",
                "cosine": cosine + 0.02 * float(rng.standard_normal()),
                "forwards": passes, "backwards": passes,
                "mask_forwards": of_map, "mask_backwards": of_map,
            }
            for number in range(UTTERANCES)
        ]  # fmt: skip
    known = pl.DataFrame(schema().empty_table())
    types = {name: known.schema[name] for name in lines[0]}
    return pl.concat([known, pl.DataFrame(lines, schema=types)], how="diagonal")


def verdicts(rows: pl.DataFrame) -> dict[str, str]:
    table = claims(rows)
    return {claim.split()[-1]: verdict for claim, verdict in
            table.select("claim", "verdict").rows()}  # fmt: skip


def test_every_claim_is_supported_where_it_holds() -> None:
    found = claims(rows_of())
    here = found.filter(pl.col("corpus") == "tess")
    assert here["verdict"].to_list() == ["supported"] * 6
    assert (here["low"] <= here["figure"]).all()
    assert (here["figure"] <= here["high"]).all()
    assert here["utterances"].to_list() == [54] * 6
    (last,) = found.filter(pl.col("corpus") == "all").to_dicts()
    assert last["verdict"] == "not testable here"
    assert "IEMOCAP" in last["reason"]


def test_figures_are_those_of_plain_loops() -> None:
    rows = rows_of()
    cost, carried, gain, loss, kept, correlation, _ = claims(rows)["figure"]
    sources = {"native": (None, None), "own": ("gradient", "own"), "random": ("random", "own"),
               "others": ("gradient", None)}  # fmt: skip
    each = {
        kind: [
            row for row in rows.to_dicts()
            if row["correct_before"] and row["explainer"] == explainer
            and (row["mask_source"] == source or (kind == "others" and row["mask_source"] != "own"))
        ]
        for kind, (explainer, source) in sources.items()
    }  # fmt: skip
    rate = {kind: np.mean([row["success"] for row in part]) for kind, part in each.items()}
    mean = {kind: np.mean([row["cosine"] for row in part]) for kind, part in each.items()}
    # Two attacks in two kinds of masks on two victims share one map of each victim.
    assert cost == pytest.approx((2 * 2 * 2 * 16 + 2 * 12) / (2 * 2 * 2 * 40))
    assert carried == pytest.approx(
        (rate["others"] - rate["random"]) / (rate["own"] - rate["random"])
    )
    assert gain == pytest.approx(rate["own"] - rate["random"])
    assert loss == pytest.approx(rate["native"] - rate["own"])
    assert kept == pytest.approx(mean["own"] - mean["native"])
    # Pairs of methods agree in reverse, apart from two attacks in the same kind of mask.
    assert correlation == pytest.approx(-12 / 15)


@pytest.mark.parametrize(
    ("changed", "claim"),
    [
        ({"others": (0.3, 0.75)}, "victims."),
        ({"own": (0.2, 0.7)}, "attacks."),
        ({"own": (0.5, 0.7)}, "budgets."),
        ({"own": (0.75, 0.5)}, "elements."),
        ({"native": (0.8, 0.6), "own": (0.75, 0.6), "others": (0.7, 0.6)}, "trade-off."),
    ],
)
def test_a_claim_that_does_not_hold_is_not_supported(
    changed: Mapping[str, tuple[float, float]], claim: str
) -> None:
    assert verdicts(rows_of({**KINDS, **changed}))[claim] == "not supported"


def test_passes_that_grow_are_not_cheaper() -> None:
    assert (
        verdicts(rows_of().with_columns(mask_forwards=pl.lit(200)))["cheaper."] == "not supported"
    )


def test_a_claim_without_its_control_is_not_testable() -> None:
    without = {name: value for name, value in KINDS.items() if name != "random"}
    found = verdicts(rows_of(without))
    assert found["victims."] == found["attacks."] == "not testable here"
    only = claims(rows_of({"native": KINDS["native"]}))
    assert set(only["verdict"]) == {"not testable here"}
    assert (only["reason"].str.len_chars() > 0).all()
    # Where the own mask gains nothing, there is nothing to carry over.
    assert verdicts(rows_of({**KINDS, "own": (0.2, 0.7)}))["victims."] == "not testable here"


def test_an_attack_that_keeps_the_prediction_is_no_point_of_the_trade_off() -> None:
    rows = rows_of()
    native = rows.filter(pl.col("explainer").is_null(), attack="pgd")
    keeping = native.with_columns(
        attack=pl.lit("sigma-mu"), attack_settings=pl.lit("sigma-mu"), success=pl.lit(False),
        cosine=pl.lit(0.1),
    )  # fmt: skip
    assert claims(pl.concat([rows, keeping])).equals(claims(rows))


def test_too_few_utterances_support_nothing() -> None:
    few = rows_of().filter(pl.col("utterance").str.slice(1).cast(int) < 20)
    here = claims(few).filter(pl.col("corpus") == "tess")
    assert set(here["verdict"]) == {"not testable here"}
    assert here["reason"].to_list()[-1] == "18 utterances were compared; 20 are needed"


def test_corpora_are_tested_apart_and_compared() -> None:
    both = pl.concat([rows_of(), rows_of(corpus="iemocap4")])
    assert verdicts(both)["TESS."] == "supported"
    differing = pl.concat([rows_of(), rows_of({**KINDS, "own": (0.5, 0.7)}, corpus="iemocap4")])
    (last,) = claims(differing).filter(pl.col("corpus") == "all").to_dicts()
    assert last["verdict"] == "not supported"
    assert last["figure"] < 1
