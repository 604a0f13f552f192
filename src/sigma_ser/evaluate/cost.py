"""Amortised cost: one shared mask for many attacks and victims against native selection."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .rates import attacks_only, correct_rows

if TYPE_CHECKING:
    import polars as pl

_SETTING = ("corpus", "protocol", "encoder", "layer")
_BUDGET = ("surface", "granularity", "sparsity", "epsilon", "budget_snr")


def shared_masks(rows: pl.DataFrame) -> pl.DataFrame:
    """Select the lines of `amortised_cost` in which an explanation serves several uses.

    Args:
        rows: the columns of `core.rows`.

    Returns:
        The columns of `amortised_cost`; random masks are left out.
    """
    import polars as pl

    return amortised_cost(rows).filter((pl.col("uses") > 1) & (pl.col("explainer") != "random"))


def amortised_cost(rows: pl.DataFrame) -> pl.DataFrame:
    """Compare the cost of a shared mask with what it saves against native attacks.

    All figures are means per correctly classified utterance, over all folds and seeds: an
    utterance that is misclassified before the attack requires neither attack nor mask. A mask is
    computed once and used by every attack and victim that ran in it. Only attacks that also ran
    natively on the same victim count, so that both sides do the same work.

    Args:
        rows: the columns of `core.rows`.

    Returns:
        One line for each source victim, explainer, scope and budget: `attacks` and `victims` that
        used the mask, `uses` (pairs of them); `mask_passes` (forwards and backwards of the
        explanation), `masked_passes` (the attacks inside the mask, all uses together),
        `once_passes` (their sum), `native_passes` (the same attacks without a mask, all uses
        together), `passes_ratio` (once / native), `break_even_passes` (number of uses from which a
        shared mask costs no more; null where attacks inside it are not cheaper); the same in
        seconds; and `timed`, the share of utterances whose explanation was timed in this run. The
        seconds of a mask that an earlier run computed are unknown and do not count as its cost:
        where none is known, seconds are null.
    """
    import polars as pl

    units = [
        f"{who}{unit}" for who in ("", "mask_") for unit in ("forwards", "backwards", "seconds")
    ]
    ran = ("victim", "attack", "attack_settings", "explainer", "scope", "mask_source")
    rows = correct_rows(attacks_only(rows), *_SETTING, *_BUDGET, *ran, *units).with_columns(
        (pl.col("forwards") + pl.col("backwards")).alias("passes"),
        (pl.col("mask_forwards") + pl.col("mask_backwards")).alias("mask_passes"),
        pl.when(pl.col("mask_source") == "own")
        .then(pl.col("victim"))
        .otherwise(pl.col("mask_source"))
        .alias("source_victim"),
    )
    pair = [*_SETTING, *_BUDGET, "victim", "attack", "attack_settings"]
    native = rows.filter(pl.col("explainer").is_null()).group_by(pair).agg(
        pl.col("passes").mean().alias("native_passes"),
        pl.col("seconds").mean().alias("native_seconds"),
    )  # fmt: skip
    place = [*_SETTING, *_BUDGET, "source_victim", "explainer", "scope"]
    # A universal map has no cost per utterance, so it has no break-even point here.
    masked = rows.filter(pl.col("explainer").is_not_null() & (pl.col("mask_source") != "universal"))
    uses = masked.group_by(*place, "victim", "attack", "attack_settings", maintain_order=True).agg(
        pl.col("passes").mean().alias("masked_passes"),
        pl.col("seconds").mean().alias("masked_seconds"),
        pl.col("mask_passes").mean(),
        pl.col("mask_seconds").mean(),
        pl.col("mask_seconds").is_not_null().mean().alias("timed"),
    )
    both = uses.join(native, on=pair, how="inner", nulls_equal=True, maintain_order="left")
    table = both.group_by(place, maintain_order=True).agg(
        pl.struct("attack", "attack_settings").n_unique().cast(pl.Int64).alias("attacks"),
        pl.col("victim").n_unique().cast(pl.Int64).alias("victims"),
        pl.len().cast(pl.Int64).alias("uses"),
        pl.col("timed").mean(),
        *(pl.col(f"mask_{unit}").mean() for unit in ("passes", "seconds")),
        *(pl.col(f"{who}_{unit}").sum() for who in ("masked", "native")
          for unit in ("passes", "seconds")),
    )  # fmt: skip
    for unit in ("passes", "seconds"):
        mask, inside, free = (pl.col(f"{who}_{unit}") for who in ("mask", "masked", "native"))
        saved = (free - inside) / pl.col("uses")
        table = table.with_columns(
            (mask + inside).alias(f"once_{unit}"),
            ((mask + inside) / free).alias(f"{unit}_ratio"),
            pl.when(saved > 0).then((mask / saved).ceil().clip(1)).alias(f"break_even_{unit}"),
        )
    return table
