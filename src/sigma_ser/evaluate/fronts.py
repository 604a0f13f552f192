"""Trade-offs: Pareto fronts, and consistency of explanations at matched success rates."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Bool, Float

from .paired import CONTEST, METHOD
from .rates import attacks_only

if TYPE_CHECKING:
    import polars as pl

# Methods are compared on a victim over all budgets.
_VICTIM = tuple(name for name in CONTEST if name not in ("sparsity", "epsilon", "budget_snr"))
CONSISTENCY: tuple[str, ...] = ("topk_intersection", "spearman", "cosine")
LEVELS: tuple[float, ...] = (0.25, 0.5, 0.75, 0.9)


def undominated(
    gain: Float[np.ndarray, "N"], other: Float[np.ndarray, "N"]
) -> Bool[np.ndarray, "N"]:
    """Mark the points of the Pareto front of two values, of which larger is better.

    Args:
        gain: `(N,)` one value of each point; a point with NaN is not on the front.
        other: `(N,)` the other value of each point.

    Returns:
        `(N,)`, whether no other point is at least as good in both values and better in one.

    >>> undominated(np.array([1.0, 2.0, 2.0]), np.array([3.0, 1.0, 0.5])).tolist()
    [True, True, False]
    """
    known = ~(np.isnan(gain) | np.isnan(other))
    at_least = (gain[None] >= gain[:, None]) & (other[None] >= other[:, None])
    better = (gain[None] > gain[:, None]) | (other[None] > other[:, None])
    dominated = (at_least & better & known[None]).any(1)
    front: Bool[np.ndarray, "N"] = known & ~dominated
    return front


def fronts(cells: pl.DataFrame) -> pl.DataFrame:
    """Mark the cells on the Pareto fronts of success against consistency, and against cost.

    Args:
        cells: the result of `summarise`, pooled over folds and seeds.

    Returns:
        The columns of `CONTEST` and `METHOD`, `asr`, each consistency measure, `passes` (a mean per
        utterance, including the explanation of the mask), and `front_<measure>`, `front_passes`:
        whether no other method on the same victim, over all budgets, has both a higher success
        rate and a higher consistency (fewer passes); `moved_<measure>`, the other side: whether no
        other method has both a lower success rate and a lower consistency. Random controls are
        excluded.
    """
    import polars as pl

    passes = (pl.col("forwards_total") + pl.col("backwards_total")).alias("passes")
    table = attacks_only(cells).select(*CONTEST, *METHOD, "asr", *CONSISTENCY, passes)
    parts = []
    for part in table.partition_by(_VICTIM, maintain_order=True):
        real = (part["attack"] != "random") & (part["explainer"].fill_null("") != "random")
        asr = part["asr"].cast(pl.Float64).fill_null(float("nan")).to_numpy()
        asr = np.where(real.to_numpy(), asr, np.nan)
        values = {name: part[name].cast(pl.Float64).fill_null(float("nan")).to_numpy()
                  for name in (*CONSISTENCY, "passes")}  # fmt: skip
        marks = {
            **{f"front_{name}": undominated(asr, values[name]) for name in CONSISTENCY},
            "front_passes": undominated(asr, -values["passes"]),
            **{f"moved_{name}": undominated(-asr, -values[name]) for name in CONSISTENCY},
        }
        parts.append(part.with_columns(pl.Series(name, mark) for name, mark in marks.items()))
    return pl.concat(parts)


def at_matched_success(cells: pl.DataFrame, levels: Sequence[float] = LEVELS) -> pl.DataFrame:
    """Compare the consistency of methods at equal success rates.

    A stronger attack also changes explanations more, so the consistency of each method is
    interpolated linearly between its budgets at the success rates of `levels`. Levels outside the
    range of a method are left out; there is no extrapolation.

    Args:
        cells: the result of `summarise`, pooled over folds and seeds.
        levels: success rates, in [0, 1].

    Returns:
        The columns of `CONTEST` except the budget, those of `METHOD`, `level`, and each
        consistency measure at that level.
    """
    import polars as pl

    lines: list[dict[str, Any]] = []
    place = [*_VICTIM, *METHOD]
    # Among equal success rates the highest consistency is used.
    rising = attacks_only(cells).drop_nulls("asr").sort("asr", CONSISTENCY[0])
    for names, part in rising.group_by(place, maintain_order=True):
        asr = part["asr"].to_numpy()
        for level in levels:
            if not asr[0] <= level <= asr[-1]:
                continue
            kept = {
                name: float(np.interp(level, asr, part[name].cast(pl.Float64).to_numpy()))
                if part[name].null_count() == 0
                else None
                for name in CONSISTENCY
            }
            lines.append(dict(zip(place, names, strict=True)) | {"level": level} | kept)
    return pl.DataFrame(lines, infer_schema_length=None)
