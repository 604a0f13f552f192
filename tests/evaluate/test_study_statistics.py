"""Statistics over rows, against counts made by hand and against scipy."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl
import pytest
from scipy.stats import binomtest, false_discovery_control

from sigma_ser.core.rows import CELL_COLUMNS, schema
from sigma_ser.evaluate.cost import amortised_cost, shared_masks
from sigma_ser.evaluate.fronts import at_matched_success, fronts
from sigma_ser.evaluate.groups import by_group, worst_case
from sigma_ser.evaluate.paired import paired_comparisons
from sigma_ser.evaluate.summary import summarise
from sigma_ser.evaluate.tables import consistency_intervals
from sigma_ser.evaluate.transfer import mask_transfer, matrix, replay_transfer
from sigma_ser.statistics.bootstrap import mean_interval, mean_intervals

LABELS = ("angry", "sad")


def rows_of(*cells: dict[str, Any]) -> pl.DataFrame:
    """Rows of cells; `flipped` of each marks its misclassified utterances."""
    lines = []
    for cell in cells:
        flipped = cell.pop("flipped")
        for number, success in enumerate(flipped):
            line = dict.fromkeys(schema().names)
            line |= {
                "corpus": "c", "protocol": "p", "fold": "f", "encoder": "e", "layer": "-1",
                "victim": "mlp", "victim_seed": 0, "attack_seed": 0, "attack": "a",
                "attack_settings": "A()", "surface": "features", "granularity": "element",
                "sparsity": 0.01,
                "epsilon": 0.5, "utterance": f"u{number}", "label": LABELS[number % 2],
                "speaker": "s", "prediction_before": "x", "prediction_after": "y",
                "correct_before": True, "success": success, "forwards": 3, "backwards": 2,
                "mask_forwards": 0, "mask_backwards": 0, "seconds": 0.5, "mask_seconds": 0.0,
                "confidence_before": 0.6 + 0.1 * number, "duration": 1.5,
            }  # fmt: skip
            lines.append(line | cell)
    table = pl.from_arrow(schema().empty_table())
    assert isinstance(table, pl.DataFrame)
    return pl.DataFrame(lines, schema=table.schema)


def masked(source: str = "own", **more: Any) -> dict[str, Any]:
    return {"explainer": "gradient", "mask_source": source, "scope": 8, **more}


def test_pairs_agree_with_the_binomial_test_and_are_corrected_together() -> None:
    rng = np.random.default_rng(0)
    outcomes = {name: (rng.random(40) < rate).tolist()
                for name, rate in (("a", 0.2), ("b", 0.5), ("c", 0.8))}  # fmt: skip
    rows = rows_of(*({"attack": name, "flipped": flipped} for name, flipped in outcomes.items()))
    pairs = paired_comparisons(rows.sample(fraction=1, shuffle=True, seed=1))
    assert len(pairs) == 3
    for pair in pairs.to_dicts():
        one, two = (np.array(outcomes[pair[f"{side}_attack"]]) for side in ("first", "second"))
        only_one, only_two = int((one & ~two).sum()), int((two & ~one).sum())
        assert (pair["only_first"], pair["only_second"]) == (only_one, only_two)
        assert pair["p"] == pytest.approx(binomtest(only_one, only_one + only_two).pvalue)
        assert pair["difference"] == pytest.approx(one.mean() - two.mean())
    ordered = np.sort(pairs["p"].to_numpy())
    by_hand = np.maximum.accumulate(np.minimum(1, ordered * [3, 2, 1]))
    np.testing.assert_allclose(np.sort(pairs["p_holm"].to_numpy()), by_hand)
    assert (pairs["p_holm"].to_numpy() >= false_discovery_control(pairs["p"].to_numpy())).all()


def test_utterances_that_only_one_method_attacked_are_not_compared() -> None:
    rows = rows_of({"flipped": [True] * 4}, {"attack": "b", "flipped": [False] * 2})
    (pair,) = paired_comparisons(rows).to_dicts()
    assert (pair["utterances"], pair["only_first"], pair["p"]) == (2, 2, 0.5)


def test_seeds_with_equal_results_change_no_test_and_no_interval() -> None:
    successes = {"a": [True] * 8 + [False] * 4, "b": [False] * 12}
    seeds = [rows_of(*({"attack": name, "flipped": flipped, "attack_seed": seed}
                       for name, flipped in successes.items())) for seed in range(3)]  # fmt: skip
    once, thrice = seeds[0], pl.concat(seeds)
    (one,), (many,) = (paired_comparisons(rows).to_dicts() for rows in (once, thrice))
    assert (many["utterances"], many["trials"], many["only_first"]) == (12, 36, 24)
    assert (one["utterances"], one["trials"], one["only_first"]) == (12, 12, 8)
    for name in ("difference", "p", "p_holm"):
        assert many[name] == pytest.approx(one[name]), name
    by = [name for name in CELL_COLUMNS if name != "attack_seed"]
    for table in (lambda rows: summarise(rows, by), lambda rows: by_group(rows, "speaker")):
        ends = [table(rows).select("asr_low", "asr_high").to_numpy() for rows in (once, thrice)]
        np.testing.assert_allclose(*ends)
    both = consistency_intervals(once.with_columns(spearman=pl.col("confidence_before")))
    more = consistency_intervals(thrice.with_columns(spearman=pl.col("confidence_before")))
    ends = [one.select("spearman_low", "spearman_high").to_numpy() for one in (both, more)]
    np.testing.assert_allclose(*ends)


def test_worst_case_counts_an_utterance_misclassified_under_any_real_attack() -> None:
    rows = rows_of(
        {"flipped": [True, False, False, False]},
        {"attack": "b", "flipped": [False, True, False, False]},
        {"attack": "random", "flipped": [False, False, True, False]},
    )
    (case,) = worst_case(rows).to_dicts()
    assert (case["attacks"], case["utterances"], case["flipped"]) == (2, 4, 2)
    labels = worst_case(rows, ["label"])
    assert dict(labels.select("label", "flipped").iter_rows()) == {"angry": 1, "sad": 1}


def test_groups_partition_the_utterances() -> None:
    rows = rows_of({"flipped": [True, False, False, True]})
    for column in ("label", "speaker", "confidence", "duration"):
        groups = by_group(rows, column)
        assert groups["utterances"].sum() == 4
        assert groups["flipped"].sum() == 2
    table = by_group(rows, "confidence")
    assert dict(table.select("confidence", "utterances").iter_rows()) == {
        "0.5 to 0.7": 1,
        "0.7 to 0.9": 2,
        "over 0.9": 1,
    }


def test_fronts_and_matched_success() -> None:
    half, most = [True, False] * 2, [True] * 3 + [False]
    rows = rows_of(
        {"flipped": half, "topk_intersection": 0.8},
        {"flipped": most, "topk_intersection": 0.4, "sparsity": 0.02},
        {"attack": "b", "flipped": half, "topk_intersection": 0.3},
        {"attack": "random", "flipped": most, "topk_intersection": 0.9},
    )
    cells = summarise(rows)
    table = fronts(cells)
    on = table.filter("front_topk_intersection").select("attack", "sparsity").rows()
    assert set(on) == {("a", 0.01), ("a", 0.02)}
    # The other side: as few successes, and the explanation moved furthest.
    assert table.filter("moved_topk_intersection")["attack"].to_list() == ["b"]
    levels = at_matched_success(cells, [0.25, 0.6])
    (kept,) = levels.filter(pl.col("attack") == "a").to_dicts()
    assert kept["level"] == 0.6
    assert kept["topk_intersection"] == pytest.approx(0.64)  # 0.8 - 0.4 x 0.1 / 0.25


def test_mask_transfer_names_sources_and_compares_with_native_and_own() -> None:
    rows = rows_of(
        {"flipped": [True] * 4},
        masked(flipped=[True, True, False, False]),
        masked("bilstm", flipped=[True, False, False, False]),
    )
    lines = mask_transfer(rows).sort("source_victim").to_dicts()
    assert [(one["source_victim"], one["asr"]) for one in lines] == [("bilstm", 0.25), ("mlp", 0.5)]
    assert [one["of_native"] for one in lines] == [0.25, 0.5]
    assert [one["of_own"] for one in lines] == [0.5, 1.0]
    table = matrix(mask_transfer(rows), "source_victim", "attack")
    assert sorted(table.columns) == ["a", "source_victim"]


def test_a_mask_under_two_names_counts_once() -> None:
    rows = rows_of(
        masked(flipped=[True, True, False, False]),
        masked("mlp", flipped=[True, True, False, False]),
        masked(flipped=[True] * 4, attack_seed=1),
    )
    (line,) = mask_transfer(rows).to_dicts()
    assert (line["utterances"], line["flipped"]) == (8, 6)


def test_replays_count_utterances_that_both_victims_classify_correctly() -> None:
    rows = rows_of({"flipped": [True, True, False, False]}).with_columns(
        target_victim=pl.lit("bilstm"),
        target_seed=pl.lit(0),
        source_correct=pl.Series([True, True, True, False]),
        source_success=pl.col("success"),
    )
    (line,) = replay_transfer(rows).to_dicts()
    assert (line["utterances"], line["flipped"], line["source_victim"]) == (3, 2, "mlp")
    assert line["source_asr"] == pytest.approx(2 / 3)


def test_a_mask_counts_once_and_unknown_times_do_not_count() -> None:
    explained = {"mask_forwards": 8, "mask_backwards": 4, "mask_seconds": None}
    rows = rows_of(
        {"flipped": [False] * 2, "forwards": 10, "backwards": 10},
        {"attack": "b", "flipped": [False] * 2, "forwards": 10, "backwards": 10},
        masked(flipped=[False] * 2, forwards=6, backwards=6, **explained),
        masked(attack="b", flipped=[False] * 2, forwards=6, backwards=6, **explained),
        masked(attack="alone", flipped=[False] * 2, **explained),
        # A misclassified utterance is not attacked, so it would lower all costs.
        *(
            {
                **kind,
                "attack": attack,
                "flipped": [True],
                "utterance": "wrong",
                "forwards": 1,
                "correct_before": False,
                "backwards": 0,
            }
            for attack in "ab"
            for kind in ({}, masked(**explained))
        ),
    )
    (cost,) = amortised_cost(rows).to_dicts()
    assert shared_masks(rows).to_dicts() == [cost]
    assert not len(shared_masks(rows.filter(pl.col("attack") == "a")))
    assert (cost["attacks"], cost["victims"], cost["uses"]) == (2, 1, 2)
    assert (cost["once_passes"], cost["native_passes"]) == (12 + 24, 40)
    assert cost["break_even_passes"] == 2  # 12 passes, of which each use saves 8
    assert cost["timed"] == 0
    assert cost["once_seconds"] is None


def test_intervals_of_many_columns_agree_with_those_of_one() -> None:
    rng = np.random.default_rng(3)
    values = rng.normal(size=(60, 2))
    values[::7, 1] = np.nan
    low, high = mean_intervals(values, resamples=4000)
    for at in range(2):
        known = values[:, at][~np.isnan(values[:, at])]
        one = mean_interval(known, resamples=4000)
        np.testing.assert_allclose((low[at], high[at]), one, atol=0.03)
