"""Trade-offs: which methods nobody beats, and what is left of explanations at the same success."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Bool, Float

from .paired import CONTEST, METHOD

if TYPE_CHECKING:
    import polars as pl

# What is compared over budgets: a victim, whatever the share and size of the moves.
_VICTIM = tuple(name for name in CONTEST if name not in ("sparsity", "epsilon"))
CONSISTENCY: tuple[str, ...] = ("topk_intersection", "spearman", "cosine")
LEVELS: tuple[float, ...] = (0.25, 0.5, 0.75, 0.9)


def undominated(
    gain: Float[np.ndarray, "N"], other: Float[np.ndarray, "N"]
) -> Bool[np.ndarray, "N"]:
    """Which points no other one beats in both values, of which more is better; NaN never does.

    >>> undominated(np.array([1.0, 2.0, 2.0]), np.array([3.0, 1.0, 0.5])).tolist()
    [True, True, False]
    """
    known = ~(np.isnan(gain) | np.isnan(other))
    at_least = (gain[None] >= gain[:, None]) & (other[None] >= other[:, None])
    better = (gain[None] > gain[:, None]) | (other[None] > other[:, None])
    beaten = (at_least & better & known[None]).any(1)
    front: Bool[np.ndarray, "N"] = known & ~beaten
    return front


def fronts(cells: pl.DataFrame) -> pl.DataFrame:
    """Mark the cells that are on the front of success against consistency, and against cost.

    Args:
        cells: what `summarise` gives, pooled over folds and seeds.

    Returns:
        The columns of `CONTEST` and `METHOD`, `asr`, each consistency measure, `passes` (a mean per
        utterance, with the explanation that made the mask), and `front_<measure>`, `front_passes`:
        whether no other method on the same victim, over all budgets, has both more success and
        more of the explanation left (fewer passes). Random controls are in no front.
    """
    import polars as pl

    passes = (pl.col("forwards_total") + pl.col("backwards_total")).alias("passes")
    table = cells.select(*CONTEST, *METHOD, "asr", *CONSISTENCY, passes)
    parts = []
    for part in table.partition_by(_VICTIM, maintain_order=True):
        real = (part["attack"] != "random") & (part["explainer"].fill_null("") != "random")
        asr = part["asr"].cast(pl.Float64).fill_null(float("nan")).to_numpy()
        asr = np.where(real.to_numpy(), asr, np.nan)
        marks = [
            pl.Series(
                f"front_{name}",
                undominated(
                    asr, sign * part[name].cast(pl.Float64).fill_null(float("nan")).to_numpy()
                ),
            )
            for name, sign in [*((name, 1.0) for name in CONSISTENCY), ("passes", -1.0)]
        ]
        parts.append(part.with_columns(marks))
    return pl.concat(parts)


def at_matched_success(cells: pl.DataFrame, levels: Sequence[float] = LEVELS) -> pl.DataFrame:
    """What each method leaves of the explanation where it succeeds equally often.

    Methods differ in strength, and who flips more moves more; so each is read between its budgets,
    linearly, at the success rates of `levels`. A level that a method does not span is left out:
    nothing is extrapolated.

    Args:
        cells: what `summarise` gives, pooled over folds and seeds.
        levels: success rates.

    Returns:
        The columns of `CONTEST` but the budget, those of `METHOD`, `level`, and each consistency
        measure there.
    """
    import polars as pl

    lines: list[dict[str, Any]] = []
    place = [*_VICTIM, *METHOD]
    # Of equal success rates the one that keeps most is read.
    rising = cells.drop_nulls("asr").sort("asr", CONSISTENCY[0])
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
