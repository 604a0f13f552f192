"""Success of attacks on the explanation: it moved, and the prediction stayed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sigma_ser.core.rows import CELL_COLUMNS

from .rates import correct_rows

if TYPE_CHECKING:
    import polars as pl

_REPEATED = ("fold", "victim_seed", "attack_seed")
_CELL = [name for name in CELL_COLUMNS if name not in _REPEATED]
# Largest cosine and top-k intersection of an explanation that counts as moved.
COSINE, OVERLAP = 0.2, 0.1
# The cosines of the curve.
LEVELS: tuple[float, ...] = tuple(round(0.05 * step, 2) for step in range(1, 21))


def explanation_success(
    rows: pl.DataFrame, *, cosine: float = COSINE, overlap: float = OVERLAP
) -> pl.DataFrame:
    """Compute how often an attack moves the explanation and keeps the prediction.

    An explanation counts as moved if the cosine of the maps of the true class before and after the
    attack is below `cosine`, and their top-k intersection below `overlap`. The limits are a
    convention, so the curve over the cosine alone stands beside the rate: `below_<t>` is the share
    of utterances with the prediction kept and a cosine below `t`, and `area` the area under that
    curve from 0 to 1, which is the mean of `kept * (1 - cosine)`.

    Args:
        rows: the columns of `core.rows`.
        cosine: limit of the cosine, in (0, 1].
        overlap: limit of the top-k intersection, in (0, 1].

    Returns:
        One line for each cell, over folds and seeds, of the utterances that were classified
        correctly before the attack and have a consistency: the columns of a cell, `utterances`,
        `kept` (share with the prediction kept), `explanation_success`, `area`, and `below_0.05` to
        `below_1.0`.
    """
    import polars as pl

    measured = correct_rows(
        rows, *_CELL, "prediction_before", "prediction_after", "cosine", "topk_intersection"
    ).filter(pl.col("cosine").fill_nan(None).is_not_null())
    kept = pl.col("prediction_before") == pl.col("prediction_after")
    near = pl.col("cosine").clip(0.0, 1.0)
    moved = (pl.col("cosine") < cosine) & (pl.col("topk_intersection") < overlap)
    return measured.group_by(_CELL, maintain_order=True).agg(
        pl.len().cast(pl.Int64).alias("utterances"),
        kept.mean().alias("kept"),
        (kept & moved).mean().alias("explanation_success"),
        (kept * (1.0 - near)).mean().alias("area"),
        *((kept & (pl.col("cosine") < level)).mean().alias(f"below_{level}") for level in LEVELS),
    )
