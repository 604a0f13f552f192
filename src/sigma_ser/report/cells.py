"""The cells of the report: summaries pooled over folds and seeds, with display names."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sigma_ser.core.rows import CELL_COLUMNS
from sigma_ser.evaluate.summary import summarise

from .setting_words import with_settings

if TYPE_CHECKING:
    import polars as pl

Cell = dict[str, Any]

# Folds and seeds are repetitions of one method, so the report pools them.
_REPEATED = ("fold", "victim_seed", "attack_seed")
POOLED_COLUMNS: tuple[str, ...] = tuple(name for name in CELL_COLUMNS if name not in _REPEATED)
_ATTACK = ("attack", "attack_settings", "budget_snr")
SETTING = ("corpus", "protocol", "encoder", "layer", "surface", "granularity")
KINDS: dict[str, str] = {
    "native": "native: no mask",
    "scope": "masked, mask larger than the budget",
    "mask": "masked, mask of exactly k values",
    "control": "random control",
    "corruption": "natural corruption",
}


@dataclass(frozen=True)
class Budgets:
    """All budgets of a run, and the reference budget, at which its attacks differ most."""

    all: tuple[tuple[float, float], ...]
    reference: tuple[float, float] | None

    @property
    def sparsities(self) -> tuple[float, ...]:
        """The values of sparsity, ascending."""
        return tuple(sorted({sparsity for sparsity, _ in self.all}))

    @property
    def epsilons(self) -> tuple[float, ...]:
        """The values of epsilon, ascending."""
        return tuple(sorted({epsilon for _, epsilon in self.all}))


def page_cells(rows: pl.DataFrame, surface: str | None = None) -> pl.DataFrame:
    """Summaries of the rows, pooled over folds and seeds, with four leading columns.

    With a surface, the cells of the other one are left out; the ids are the same.

    `cell` is the id that links a number to its table row, `panel` is the name of the victim (with
    every setting that varies in the run), `method` is the attack with its mask, and `kind` is one
    of `KINDS`.
    """
    import polars as pl

    cells = summarise(rows, POOLED_COLUMNS).with_row_index("_number", 1)
    if surface is not None:
        cells = cells.filter(pl.col("surface") == surface)
    # A corruption has no granularity.
    varying = [name for name in SETTING if cells[name].drop_nulls().n_unique() > 1]
    panel = pl.concat_str(
        [pl.col("victim"), *(pl.col(name) for name in varying)], separator=" · ", ignore_nulls=True
    )
    explainer, source = pl.col("explainer"), pl.col("mask_source")
    foreign = source.is_not_null() & (source != "own") & (source != pl.col("victim"))
    cells = cells.join(
        _attack_names(cells), on=list(_ATTACK), how="left", nulls_equal=True, maintain_order="left"
    )
    method = pl.concat_str(
        pl.col("_name"),
        pl.when(explainer.is_not_null())
        .then(pl.concat_str(pl.lit(" in "), explainer, pl.lit(" ×"), pl.col("scope").fill_null(1)))
        .otherwise(pl.lit("")),
        pl.when(foreign).then(pl.concat_str(pl.lit(" of "), source)).otherwise(pl.lit("")),
    )
    control = (pl.col("attack") == "random") | (explainer.fill_null("") == "random")
    kind = (
        pl.when(pl.col("granularity").is_null())
        .then(pl.lit("corruption"))
        .when(control)
        .then(pl.lit("control"))
        .when(explainer.is_null())
        .then(pl.lit("native"))
        .when(pl.col("scope").fill_null(1) > 1)
        .then(pl.lit("scope"))
        .otherwise(pl.lit("mask"))
    )
    return cells.select(
        pl.concat_str(pl.lit("c"), "_number").alias("cell"),
        panel.fill_null("victim").alias("panel"),
        method.fill_null("attack").alias("method"),
        kind.alias("kind"),
        pl.exclude("_number", "_name"),
        (pl.col("forwards") + pl.col("backwards")).alias("passes"),
        (pl.col("mask_forwards") + pl.col("mask_backwards")).alias("mask_passes"),
        (pl.col("forwards_total") + pl.col("backwards_total")).alias("passes_total"),
    )


def _attack_names(cells: pl.DataFrame) -> pl.DataFrame:
    """The name of each attack, with the settings in which attacks of this name differ."""
    import polars as pl

    lines = cells.select(_ATTACK).unique(maintain_order=True)
    names = []
    for attack, settings, ratio in lines.iter_rows():
        # The settings of a corruption contain its ratio, which the budget states as well.
        same = lines.filter(pl.col("attack") == attack, pl.col("budget_snr").eq_missing(ratio))
        every = same["attack_settings"].unique(maintain_order=True).drop_nulls().to_list()
        names.append(with_settings(attack, settings, every))
    return lines.with_columns(pl.Series("_name", names, pl.String))


def budgets_of(cells: pl.DataFrame) -> Budgets:
    """All budgets, and the reference: the largest gap between strongest and weakest attack."""
    import polars as pl

    by = ["sparsity", "epsilon"]
    spread = (
        cells.drop_nulls([*by, "asr"])
        .group_by(*by, "panel", maintain_order=True)
        .agg(pl.col("asr").max().alias("_high"), pl.col("asr").min().alias("_low"))
        .group_by(by, maintain_order=True)
        .agg((pl.col("_high") - pl.col("_low")).mean().alias("_spread"), pl.col("_high").mean())
        # Ties (all gaps are 0 in a run with one attack): higher success rate, then smaller budget.
        .sort("_spread", "_high", *by, descending=[True, True, False, False])
    )
    every = cells.select(by).unique().drop_nulls().sort(by).rows()
    return Budgets(tuple(every), spread.select(by).row(0) if len(spread) else None)


def at_budget(cells: pl.DataFrame, budget: tuple[float, float]) -> pl.DataFrame:
    """The cells of one budget."""
    import polars as pl

    return cells.filter((pl.col("sparsity") == budget[0]) & (pl.col("epsilon") == budget[1]))


def strongest(cells: list[Cell]) -> Cell | None:
    """The cell with the highest success rate; ties are broken by fewest passes."""
    rated = [cell for cell in cells if cell["asr"] is not None]
    if not rated:
        return None
    return min(rated, key=lambda cell: (-cell["asr"], cell["passes_total"] or 0.0))
