"""Tables of statistics over a run, computed from its rows and from nothing else."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from sigma_ser.core.files import whole_file
from sigma_ser.core.rows import CELL_COLUMNS, CONSISTENCY_METRICS
from sigma_ser.statistics.bootstrap import mean_intervals

from .cost import amortised_cost
from .fronts import at_matched_success, fronts
from .groups import by_group, worst_case
from .paired import paired_comparisons
from .rates import UTTERANCE, needed
from .summary import summarise
from .transfer import mask_transfer, replay_transfer

if TYPE_CHECKING:
    import polars as pl

_REPEATED = ("fold", "victim_seed", "attack_seed")
_POOLED = [name for name in CELL_COLUMNS if name not in _REPEATED]


def write_analysis(folder: Path, rows: pl.DataFrame, replays: pl.DataFrame | None) -> None:
    """Write `analysis/*.csv`; a table without a line is left out. See docs/studies.md for each.

    Args:
        folder: of the run.
        rows: of the run.
        replays: what other victims said to the perturbations, where they were asked.
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
        "matched": at_matched_success(cells),
        "mask_transfer": mask_transfer(rows),
        "cost": amortised_cost(rows),
    }  # fmt: skip
    if replays is not None:
        tables["replay_transfer"] = replay_transfer(replays)
    target = folder / "analysis"
    if target.exists():
        shutil.rmtree(target)
    for name, table in tables.items():
        if len(table):
            with whole_file(target / f"{name}.csv") as aside:
                table.write_csv(aside)


def consistency_intervals(rows: pl.DataFrame) -> pl.DataFrame:
    """Means of the consistency measures of each cell with bootstrap 95 % intervals.

    What is drawn again is the utterance, with all of its seeds together.

    Returns:
        The columns of a cell but fold and seeds, `utterances` (right before the attack, once for
        each of their seeds), and for each measure `<measure>`, `<measure>_low`, `<measure>_high`.
    """
    import polars as pl

    right = needed(rows, *_POOLED, *UTTERANCE, *CONSISTENCY_METRICS)
    lines = []
    for names, group in right.group_by(_POOLED, maintain_order=True):
        values = group.select(pl.col(CONSISTENCY_METRICS).cast(pl.Float64)).to_numpy()
        some = ~np.isnan(values).all(0)
        if not some.any():
            continue
        drawn = group.select(UTTERANCE)
        known = drawn.unique(maintain_order=True).with_row_index("_owner")
        owner = drawn.join(known, on=UTTERANCE, maintain_order="left")["_owner"].to_numpy()
        low, high = mean_intervals(values, owner=owner.astype(np.int64))
        means = [float(np.nanmean(values[:, at])) if some[at] else None for at in range(len(some))]
        line = dict(zip(_POOLED, names, strict=True)) | {"utterances": len(group)}
        for at, metric in enumerate(CONSISTENCY_METRICS):
            line |= {metric: means[at]}
            line |= {f"{metric}_low": low[at] if some[at] else None}
            line |= {f"{metric}_high": high[at] if some[at] else None}
        lines.append(line)
    return pl.DataFrame(lines, infer_schema_length=None)
