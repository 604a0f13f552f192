"""Transfer of masks between attacks and victims, and of perturbations between victims."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .paired import TRIAL
from .rates import UTTERANCE, attacks_only, correct_rows, success_rates

if TYPE_CHECKING:
    import polars as pl

_SETTING = ("corpus", "protocol", "encoder", "layer")
_BUDGET = ("surface", "granularity", "sparsity", "epsilon", "budget_snr")
_ATTACK = ("attack", "attack_settings")


def mask_transfer(rows: pl.DataFrame) -> pl.DataFrame:
    """Success rates inside masks, by source of the mask, attack and target victim.

    Args:
        rows: the columns of `core.rows`.

    Returns:
        One line for each attack, target victim, explainer, mask source, scope and budget, over
        folds and seeds: `source_victim` (the target's name where the mask source is `own`),
        `target_victim`, `utterances`, `flipped`, `asr`, `asr_low`, `asr_high`; `native_asr`, of the
        native attack on the same victim, and the ratio `of_native = asr / native_asr`; `own_asr`,
        in the mask of the target victim, and the ratio `of_own = asr / own_asr`. Null where that
        attack did not run. `matrix` arranges a table as a matrix.
    """
    import polars as pl

    named = (*_SETTING, *_ATTACK, *_BUDGET, *TRIAL, *UTTERANCE, "victim", "mask_source",
             "explainer", "scope", "success")  # fmt: skip
    correct = correct_rows(attacks_only(rows), *named).with_columns(
        pl.when(pl.col("mask_source") == "own")
        .then(pl.col("victim"))
        .otherwise(pl.col("mask_source"))
        .alias("source_victim"),
        pl.col("victim").alias("target_victim"),
    )
    target = [*_SETTING, "target_victim", *_ATTACK, *_BUDGET]
    place = [*target, "explainer", "scope", "source_victim"]
    # The mask of the target may occur both as `own` and under the target's name; count it once.
    guided = correct.filter(pl.col("explainer").is_not_null()).unique(
        [*place, *TRIAL], keep="first", maintain_order=True
    )
    masked = success_rates(guided, place)
    native = success_rates(correct.filter(pl.col("explainer").is_null()), target)
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
    """Success rates of perturbations computed on one victim and applied to another.

    Args:
        replays: the columns of `replays.parquet` of a run.

    Returns:
        One line for each source victim, target victim, attack, mask and budget, over folds:
        `utterances` (correctly classified by both victims), `flipped` (by the target), `asr`,
        `asr_low`, `asr_high`, and `source_asr` (on the source, over the same utterances).
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
    """Arrange a transfer table as a matrix.

    Args:
        table: the result of `mask_transfer` or `replay_transfer`.
        line: the column whose values name the lines of the matrix.
        column: the column whose values name the columns of the matrix.
        value: the column of the entries, averaged over all other columns.
    """
    return table.pivot(column, index=line, values=value, aggregate_function="mean")


def _share(whole: str) -> pl.Expr:
    import polars as pl

    return pl.col("asr") / pl.when(pl.col(whole) > 0).then(pl.col(whole))
