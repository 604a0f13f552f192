"""Statistical tables over a run, computed from its rows and from nothing else."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from sigma_ser.core.rows import CELL_COLUMNS, CONSISTENCY_METRICS
from sigma_ser.statistics.bootstrap import mean_intervals

from .claims import claims
from .cost import amortised_cost
from .explanation_success import explanation_success
from .fronts import at_matched_success, fronts
from .groups import by_group, worst_case
from .paired import paired_comparisons
from .rates import UTTERANCE, correct_rows, owners
from .summary import summarise
from .transfer import mask_transfer, replay_transfer

if TYPE_CHECKING:
    import polars as pl

_REPEATED = ("fold", "victim_seed", "attack_seed")
_POOLED = [name for name in CELL_COLUMNS if name not in _REPEATED]


def statistical_tables(rows: pl.DataFrame, replays: pl.DataFrame | None) -> dict[str, pl.DataFrame]:
    """All statistical tables of a run by name; some have no lines. See docs/studies.md for each.

    Args:
        rows: of the run.
        replays: predictions of other victims on its perturbations, where there are any.
    """
    cells = summarise(rows, _POOLED)
    tables = {
        "intervals": consistency_intervals(rows),
        "paired": paired_comparisons(rows),
        "worst_case": worst_case(rows),
        "worst_case_by_label": worst_case(rows, ["label"]),
        **{f"by_{name}": by_group(rows, name)
           for name in ("label", "speaker", "confidence", "duration")},
        "fronts": fronts(cells),
        "explanation_success": explanation_success(rows),
        "matched": at_matched_success(cells),
        "mask_transfer": mask_transfer(rows),
        "cost": amortised_cost(rows),
        "claims": claims(rows),
    }  # fmt: skip
    if replays is not None:
        tables["replay_transfer"] = replay_transfer(replays)
    return tables


def consistency_intervals(rows: pl.DataFrame) -> pl.DataFrame:
    """Average the consistency measures of each cell, with bootstrap 95 % intervals.

    Utterances are resampled, each with all of its seeds together.

    Args:
        rows: the columns of `core.rows`.

    Returns:
        The columns of a cell except fold and seeds, `utterances` (correctly classified before the
        attack, counted once for each seed), and for each measure `<measure>`, `<measure>_low`,
        `<measure>_high`.
    """
    import polars as pl

    correct = correct_rows(rows, *_POOLED, *UTTERANCE, *CONSISTENCY_METRICS)
    lines = []
    for names, group in correct.group_by(_POOLED, maintain_order=True):
        values = group.select(pl.col(CONSISTENCY_METRICS).cast(pl.Float64)).to_numpy()
        some = ~np.isnan(values).all(0)
        if not some.any():
            continue
        low, high = mean_intervals(values, owner=owners(group))
        means = [float(np.nanmean(values[:, at])) if some[at] else None for at in range(len(some))]
        line = dict(zip(_POOLED, names, strict=True)) | {"utterances": len(group)}
        for at, metric in enumerate(CONSISTENCY_METRICS):
            line |= {metric: means[at]}
            line |= {f"{metric}_low": low[at] if some[at] else None}
            line |= {f"{metric}_high": high[at] if some[at] else None}
        lines.append(line)
    return pl.DataFrame(lines, infer_schema_length=None)
