"""Success rates by group (emotion, speaker, ...), and worst case over attacks."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import TYPE_CHECKING

from .paired import CONTEST, METHOD, TRIAL
from .rates import UTTERANCE, attacks_only, correct_rows, success_rates

if TYPE_CHECKING:
    import polars as pl

CONFIDENCE_EDGES: tuple[float, ...] = (0.5, 0.7, 0.9)
DURATION_EDGES: tuple[float, ...] = (1.0, 2.0, 4.0, 8.0)  # seconds


def worst_case(rows: pl.DataFrame, by: Sequence[str] = ()) -> pl.DataFrame:
    """Success rate of the strongest attack on each utterance, for each victim and budget.

    Args:
        rows: the columns of `core.rows`; natural corruptions are left out.
        by: further columns that group the utterances, such as `label`.

    Returns:
        The columns of `CONTEST` and `by`; `attacks` (number of methods, without random controls),
        `utterances` (correctly classified before the attack), `flipped` (misclassified after at
        least one attack), `worst_case_asr` with its Wilson 95 % interval `worst_case_asr_low`,
        `worst_case_asr_high`.
    """
    import polars as pl

    real = (pl.col("attack") != "random") & (pl.col("explainer").fill_null("") != "random")
    place = [*CONTEST, *by]
    named = (*place, *METHOD, *TRIAL, *UTTERANCE, "success")
    rows = correct_rows(attacks_only(rows), *named).filter(real)
    attacks = rows.group_by(CONTEST).agg(pl.struct(METHOD).n_unique().alias("attacks"))
    trial = [name for name in TRIAL if name not in (*by, "attack_seed")]
    any_success = rows.group_by(*place, *trial, maintain_order=True).agg(pl.col("success").any())
    counted = success_rates(any_success, place, "worst_case_")
    joined = counted.join(attacks, on=CONTEST, how="left", nulls_equal=True, maintain_order="left")
    return joined.select(*place, "attacks", pl.exclude(*place, "attacks"))


def by_group(rows: pl.DataFrame, column: str) -> pl.DataFrame:
    """Success rate of each method among the utterances that share a value of a column.

    Args:
        rows: the columns of `core.rows`.
        column: one of `label`, `speaker`, `text_id` ...; or `confidence` (of the prediction before
            the attack) or `duration` (seconds), which are binned by `CONFIDENCE_EDGES` and
            `DURATION_EDGES`.

    Returns:
        The columns of `CONTEST` and `METHOD`, `column`, then `utterances`, `flipped`, `asr`,
        `asr_low`, `asr_high` (Wilson 95 %), pooled over folds and seeds.
    """
    import polars as pl

    if column == "confidence":
        value = _cut(pl.col("confidence_before"), CONFIDENCE_EDGES)
    elif column == "duration":
        value = _cut(pl.col("duration"), DURATION_EDGES)
    else:
        value = pl.col(column)
    place = [*CONTEST, *METHOD, column]
    named = rows.with_columns(value.alias(column))
    correct = correct_rows(named, *place, *UTTERANCE, "success")
    return success_rates(correct, place).sort(place, nulls_last=True)


def _cut(value: pl.Expr, edges: Sequence[float]) -> pl.Expr:
    """The name of the interval in which a value lies."""
    import polars as pl

    name = pl.lit(f"over {edges[-1]:g}")
    for low, high in reversed(list(itertools.pairwise(edges))):
        name = pl.when(value < high).then(pl.lit(f"{low:g} to {high:g}")).otherwise(name)
    return pl.when(value < edges[0]).then(pl.lit(f"below {edges[0]:g}")).otherwise(name)
