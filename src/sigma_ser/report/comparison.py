"""What cells say beside each other: significance, transfer of masks, when a mask pays."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from sigma_ser.evaluate.cost import shared_masks
from sigma_ser.evaluate.rates import UTTERANCE
from sigma_ser.statistics.mcnemar import holm
from sigma_ser.statistics.sign_flip import sign_flip

from .cells import SETTING, Cell, strongest
from .findings import rows_of

if TYPE_CHECKING:
    import polars as pl


def against_best(rows: pl.DataFrame, cells: Sequence[Cell]) -> dict[str, float]:
    """p-value of each cell against the strongest of its panel, paired by utterance.

    McNemar's exact test on the utterances that were right before, two-sided, adjusted after Holm
    within the panel; an utterance with several seeds stays together (`statistics.sign_flip`). The
    strongest cell itself has none.

    Args:
        rows: the rows of the run.
        cells: lines of `page_cells`, of one budget.
    """
    import polars as pl

    pairing = [*UTTERANCE, "fold", "victim_seed", "attack_seed"]
    ahead = pl.col("success").cast(pl.Int64) - pl.col("success_other").cast(pl.Int64)
    adjusted: dict[str, float] = {}
    for panel in dict.fromkeys(cell["panel"] for cell in cells):
        rated = [cell for cell in cells if cell["panel"] == panel and cell["asr"] is not None]
        best = strongest(rated)
        others = [cell for cell in rated if best is not None and cell["cell"] != best["cell"]]
        if best is None or not others:
            continue

        def outcomes(cell: Cell) -> pl.DataFrame:
            right = rows_of(rows, cell).filter(pl.col("correct_before"))
            return right.select(*pairing, "success")

        reference = outcomes(best)
        values = []
        for cell in others:
            both = reference.join(outcomes(cell), on=pairing, suffix="_other", nulls_equal=True)
            each = both.group_by(UTTERANCE).agg(ahead.sum().alias("ahead"))
            values.append(sign_flip(each["ahead"].to_numpy()))
        for cell, value in zip(others, holm(np.array(values)), strict=True):
            adjusted[cell["cell"]] = float(value)
    return adjusted


@dataclass(frozen=True)
class Transfer:
    """Success of one method with the maps of several victims.

    `cells[victim][source]` is the cell of the attack on `victim` inside the mask of `source`;
    `free[victim]` the same attack without a mask. Victims and sources are panels' names.
    """

    title: str
    sources: tuple[str, ...]
    cells: dict[str, dict[str, Cell]]
    free: dict[str, Cell]


def transfers(cells: Sequence[Cell]) -> list[Transfer]:
    """A matrix for each method whose mask came from another victim; `cells` are of one budget."""
    groups: dict[tuple[str, str, int], list[Cell]] = {}
    for cell in cells:
        if cell["explainer"] is not None and cell["asr"] is not None:
            key = (cell["attack_settings"], cell["explainer"], cell["scope"] or 1)
            groups.setdefault(key, []).append(cell)
    found = []
    for (settings, explainer, scope), group in groups.items():
        matrix: dict[str, dict[str, Cell]] = {}
        for cell in group:
            matrix.setdefault(cell["panel"], {})[_source(cell)] = cell
        if all(_source(cell) == cell["victim"] for cell in group):
            continue
        sources = tuple(sorted({source for line in matrix.values() for source in line}))
        free = {
            cell["panel"]: cell
            for cell in cells
            if cell["explainer"] is None
            and cell["attack_settings"] == settings
            and cell["asr"] is not None
        }
        title = f"{group[0]['attack']} in {explainer} ×{scope}"
        found.append(Transfer(title, sources, matrix, free))
    return found


def _source(cell: Cell) -> str:
    """The victim whose map made the mask."""
    source: str = cell["victim"] if cell["mask_source"] in (None, "own") else cell["mask_source"]
    return source


def break_even(cell: Cell, cells: Sequence[Cell]) -> float | None:
    """How often a mask must be used until it has cost no more than the free choice each time.

    `mask passes / (free passes - masked passes)`, against the same attack without a mask on the
    same victim; `None` without such an attack or a mask, infinity where the mask never pays.
    """
    if not cell["mask_passes"] or cell["passes"] is None:
        return None
    for free in cells:
        same = ("panel", "attack_settings", "sparsity", "epsilon")
        if (
            free["explainer"] is None
            and all(free[name] == cell[name] for name in same)
            and free["passes"] is not None
        ):
            saved = free["passes"] - cell["passes"]
            return float(cell["mask_passes"] / saved) if saved > 0 else float("inf")
    return None


def masks_for_many(rows: pl.DataFrame, budget: tuple[float, float]) -> list[Cell]:
    """Lines of `evaluate.cost.shared_masks` at one budget, with a `title` that tells them apart."""
    import polars as pl

    table = shared_masks(rows)
    varying = [name for name in SETTING if rows[name].n_unique() > 1]
    here = table.filter((pl.col("sparsity") == budget[0]) & (pl.col("epsilon") == budget[1]))
    return [
        line
        | {
            "title": " · ".join(
                [
                    f"{line['explainer']} ×{line['scope'] or 1} of {line['source_victim']}",
                    *(str(line[name]) for name in varying),
                ]
            )
        }
        for line in here.to_dicts()
    ]
