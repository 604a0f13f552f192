"""Does it carry over: masks between attacks and victims, perturbations between victims."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .paired import TRIAL
from .rates import UTTERANCE, needed, success_rates

if TYPE_CHECKING:
    import polars as pl

_SETTING = ("corpus", "protocol", "encoder", "layer")
_BUDGET = ("granularity", "sparsity", "epsilon")
_ATTACK = ("attack", "attack_settings")


def mask_transfer(rows: pl.DataFrame) -> pl.DataFrame:
    """Success inside masks, by where the mask comes from, which attack uses it and on whom.

    Args:
        rows: the columns of `core.rows`.

    Returns:
        One line for each attack, target victim, explainer, mask source, scope and budget, over
        folds and seeds: `source_victim` (`own` named in full), `target_victim`, `utterances`,
        `flipped`, `asr`, `asr_low`, `asr_high`; `native_asr`, the same attack with a support of its
        own choice on the same victim, and `of_native`, the share of it that the mask keeps;
        `own_asr`, in the mask of the target itself, and `of_own`. Null where that did not run.
        Pivot `source_victim` x `attack` or `source_victim` x `target_victim` for a matrix.
    """
    import polars as pl

    named = (*_SETTING, *_ATTACK, *_BUDGET, *TRIAL, *UTTERANCE, "victim", "mask_source",
             "explainer", "scope", "success")  # fmt: skip
    right = needed(rows, *named).with_columns(
        pl.when(pl.col("mask_source") == "own")
        .then(pl.col("victim"))
        .otherwise(pl.col("mask_source"))
        .alias("source_victim"),
        pl.col("victim").alias("target_victim"),
    )
    target = [*_SETTING, "target_victim", *_ATTACK, *_BUDGET]
    place = [*target, "explainer", "scope", "source_victim"]
    # A mask of the target itself may be in the rows as its own and under its name: it is one.
    guided = right.filter(pl.col("explainer").is_not_null()).unique(
        [*place, *TRIAL], keep="first", maintain_order=True
    )
    masked = success_rates(guided, place)
    native = success_rates(right.filter(pl.col("explainer").is_null()), target)
    own = masked.filter(pl.col("source_victim") == pl.col("target_victim"))
    joined = masked.join(
        native.select(*target, pl.col("asr").alias("native_asr")),
        on=target, how="left", nulls_equal=True, maintain_order="left",
    ).join(
        own.select(*target, "explainer", "scope", pl.col("asr").alias("own_asr")),
        on=[*target, "explainer", "scope"], how="left", nulls_equal=True, maintain_order="left",
    )  # fmt: skip
    return joined.with_columns(
        _share("native_asr").alias("of_native"), _share("own_asr").alias("of_own")
    )


def replay_transfer(replays: pl.DataFrame) -> pl.DataFrame:
    """Success of perturbations made on one victim and shown to another.

    Args:
        replays: the columns of `replays.parquet` of a run.

    Returns:
        One line for each source victim, target victim, attack, mask and budget, over folds:
        `utterances` (right before on both), `flipped` (on the target), `asr`, `asr_low`,
        `asr_high`, and `source_asr` (on the source, over the same utterances).
    """
    import polars as pl

    both = replays.filter(pl.col("source_correct") & pl.col("correct_before")).rename(
        {"victim": "source_victim"}
    )
    place = [*_SETTING, "source_victim", "target_victim", *_ATTACK, *_BUDGET, "explainer",
             "mask_source", "scope"]  # fmt: skip
    source = both.group_by(place, maintain_order=True).agg(
        pl.col("source_success").mean().alias("source_asr")
    )
    return success_rates(both, place).join(
        source, on=place, how="left", nulls_equal=True, maintain_order="left"
    )


def matrix(table: pl.DataFrame, line: str, column: str, value: str = "asr") -> pl.DataFrame:
    """A transfer table as a matrix, the mean over whatever else differs."""
    return table.pivot(column, index=line, values=value, aggregate_function="mean")


def _share(whole: str) -> pl.Expr:
    import polars as pl

    return pl.col("asr") / pl.when(pl.col(whole) > 0).then(pl.col(whole))
