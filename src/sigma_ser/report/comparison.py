"""Comparisons between cells: significance, transfer of masks, and the break-even of masks."""

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
    """p-value of each cell against the strongest cell of its panel, paired by utterance.

    Two-sided exact McNemar test on the utterances that were classified correctly before the
    attack, with Holm's correction within the panel. The outcomes of one utterance under several
    seeds form one pair (`statistics.sign_flip`). The strongest cell itself has no p-value.

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
    """Success of one method inside masks from several victims.

    `cells[victim][source]` is the cell of the attack on `victim` inside the mask of `source`, and
    `native[victim]` is the same attack without a mask. Victims and sources are panel names.
    """

    title: str
    sources: tuple[str, ...]
    cells: dict[str, dict[str, Cell]]
    native: dict[str, Cell]


def transfers(cells: Sequence[Cell]) -> list[Transfer]:
    """One matrix per method whose mask came from another victim, for cells of one budget."""
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
        native = {
            cell["panel"]: cell
            for cell in cells
            if cell["explainer"] is None
            and cell["attack_settings"] == settings
            and cell["asr"] is not None
        }
        title = f"{group[0]['attack']} in {explainer} ×{scope}"
        found.append(Transfer(title, sources, matrix, native))
    return found


def _source(cell: Cell) -> str:
    """The victim whose explanation defines the mask."""
    source: str = cell["victim"] if cell["mask_source"] in (None, "own") else cell["mask_source"]
    return source


def break_even(cell: Cell, cells: Sequence[Cell]) -> float | None:
    """Number of uses from which a shared mask costs no more than the attack without a mask.

    `mask_passes / (native passes - masked passes)`, against the same attack without a mask on the
    same victim. `None` without such an attack or without a mask; infinity if the masked attack
    saves no passes.
    """
    if not cell["mask_passes"] or cell["passes"] is None:
        return None
    for native in cells:
        same = ("panel", "attack_settings", "sparsity", "epsilon")
        if (
            native["explainer"] is None
            and all(native[name] == cell[name] for name in same)
            and native["passes"] is not None
        ):
            saved = native["passes"] - cell["passes"]
            return float(cell["mask_passes"] / saved) if saved > 0 else float("inf")
    return None


def shared_mask_costs(rows: pl.DataFrame, budget: tuple[float, float]) -> list[Cell]:
    """Lines of `evaluate.cost.shared_masks` at one budget, each with a unique `title`."""
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
