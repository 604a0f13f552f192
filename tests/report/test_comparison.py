"""Significance, transfer and break-even, each against an independent count."""

from __future__ import annotations

import math
from collections.abc import Callable

import polars as pl
import pytest
import scipy.stats

from sigma_ser.report.cells import at_budget, budgets_of, page_cells
from sigma_ser.report.comparison import against_best, break_even, transfers
from sigma_ser.report.findings import findings

Rows = Callable[..., pl.DataFrame]
BUDGET = (0.02, 1.0)


def cells_of(rows: pl.DataFrame) -> list[dict]:
    return at_budget(page_cells(rows), BUDGET).to_dicts()


def test_significance_pairs_utterances_and_corrects_for_many(make_rows: Rows) -> None:
    rows = make_rows(victims=("bilstm",), sparsities=(0.02,), epsilons=(1.0,))
    cells = cells_of(rows)
    found = against_best(rows, cells)
    best = max(cells, key=lambda cell: cell["asr"])

    def misclassified(cell: dict) -> set[str]:
        same = rows.filter(
            (pl.col("attack") == cell["attack"]) & pl.col("explainer").eq_missing(cell["explainer"])
        )
        return set(same.filter(pl.col("correct_before") & pl.col("success"))["utterance"])

    plain = {}
    for cell in cells:
        if cell is not best:
            only_best, only_other = (
                misclassified(best) - misclassified(cell),
                misclassified(cell) - misclassified(best),
            )
            differ = len(only_best) + len(only_other)
            plain[cell["cell"]] = (
                scipy.stats.binomtest(len(only_best), differ).pvalue if differ else 1.0
            )
    ordered = sorted(plain, key=lambda name: plain[name])
    running = 0.0
    for place, name in enumerate(ordered):
        running = max(running, min(1.0, plain[name] * (len(ordered) - place)))
        assert found[name] == pytest.approx(running)
    assert set(found) == set(plain)
    control = next(cell["cell"] for cell in cells if cell["attack"] == "random")
    assert found[control] < 0.001, "random signs succeed less often than the strongest attack"


def test_transfer_uses_the_mask_of_another_victim(make_rows: Rows) -> None:
    rows = make_rows(sparsities=(0.02,), epsilons=(1.0,))
    assert transfers(cells_of(rows)) == [], "masks of the attacked victim are not a transfer"
    foreign = rows.filter(
        (pl.col("victim") == "bilstm") & (pl.col("explainer") == "gradient")
    ).with_columns(
        pl.lit("mean-pool").alias("mask_source"),
        (pl.col("success") & ~pl.col("correct_before")).alias("success"),
    )
    (matrix,) = transfers(cells_of(pl.concat([rows, foreign])))
    assert matrix.title == "dual-averaging in gradient ×8"
    assert matrix.sources == ("bilstm", "mean-pool")
    assert matrix.cells["bilstm"]["mean-pool"]["asr"] == 0.0
    assert matrix.cells["bilstm"]["bilstm"]["asr"] > 0.5
    assert "bilstm" not in matrix.cells["mean-pool"]
    assert matrix.native["mean-pool"]["method"] == "dual-averaging"


@pytest.mark.parametrize(
    ("free", "masked", "uses"), [(20.0, 12.0, 8.0), (20.0, 20.0, math.inf), (12.0, 20.0, math.inf)]
)
def test_break_even_is_cost_of_the_mask_over_saved_passes(
    free: float, masked: float, uses: float
) -> None:
    shared = {"panel": "v", "attack_settings": "pgd()", "sparsity": 0.01, "epsilon": 0.5}
    native = {**shared, "explainer": None, "passes": free, "mask_passes": 0.0}
    inside = {**shared, "explainer": "gradient", "passes": masked, "mask_passes": 64.0}
    assert break_even(inside, [native, inside]) == uses
    assert break_even(native, [native, inside]) is None
    assert break_even(inside, [{**native, "attack_settings": "pgd(steps=2)"}]) is None


def test_the_reference_budget_is_where_attacks_differ_most(make_rows: Rows) -> None:
    cells = page_cells(make_rows(sparsities=(0.0001, 0.01, 1.0), epsilons=(1.0,)))
    # At 0.01 % no attack succeeds, at 100 % every attack does.
    assert budgets_of(cells).reference == (0.01, 1.0)


def test_a_control_is_never_the_strongest_attack(make_rows: Rows) -> None:
    cells = cells_of(make_rows(sparsities=(0.02,), epsilons=(1.0,)))
    for cell in cells:
        if cell["kind"] == "control":
            cell["asr"] = 1.0
    for finding in findings(cells):
        assert finding.best["kind"] != "control"
        assert finding.masked is not None
        assert finding.random_mask is not None
        assert finding.random_mask["scope"] == finding.masked["scope"]
