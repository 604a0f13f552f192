"""Amortised cost: one mask for many attacks and victims, against a choice of its own each time."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .rates import needed

if TYPE_CHECKING:
    import polars as pl

_SETTING = ("corpus", "protocol", "encoder", "layer")
_BUDGET = ("granularity", "sparsity", "epsilon")


def shared_masks(rows: pl.DataFrame) -> pl.DataFrame:
    """The lines of `amortised_cost` that tell of sharing: explanations that serve several uses.

    Args:
        rows: the columns of `core.rows`.
    """
    import polars as pl

    return amortised_cost(rows).filter((pl.col("uses") > 1) & (pl.col("explainer") != "random"))


def amortised_cost(rows: pl.DataFrame) -> pl.DataFrame:
    """What a mask costs when it is made once, beside what it saves.

    All figures are means per utterance that was right before, over all folds and seeds: one that
    is wrong from the start needs no attack and no mask. A mask is paid for once and used
    by every attack and victim that ran in it; only attacks that also ran with a support of their
    own choice on the same victim count, so that both sides do the same work.

    Args:
        rows: the columns of `core.rows`.

    Returns:
        One line for each source victim, explainer, scope and budget: `attacks` and `victims` that
        used the mask, `uses` (pairs of them); `mask_passes` (forwards and backwards of the
        explanation), `masked_passes` (the attacks inside the mask, all uses together),
        `once_passes` (their sum), `native_passes` (the same attacks free, all uses together),
        `passes_ratio` (once / native), `break_even` (uses from which a mask made once costs no
        more; null where attacks inside it are not cheaper at all); the same in seconds; and
        `timed`, the share of utterances whose explanation was timed in this run. The seconds of a
        mask that was there already are not known and never taken for its cost: where none is
        known, seconds are null.
    """
    import polars as pl

    units = [
        f"{who}{unit}" for who in ("", "mask_") for unit in ("forwards", "backwards", "seconds")
    ]
    ran = ("victim", "attack", "attack_settings", "explainer", "scope", "mask_source")
    rows = needed(rows, *_SETTING, *_BUDGET, *ran, *units).with_columns(
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
    # A universal map is not paid for by utterance, so it has no break-even here.
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
