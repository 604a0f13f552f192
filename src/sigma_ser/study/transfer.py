"""Perturbations kept, and shown to other victims: do they carry over?"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float
from torch import Tensor

from sigma_ser.core.features import FeatureBatch
from sigma_ser.core.files import whole_file
from sigma_ser.core.rows import CELL_COLUMNS, schema
from sigma_ser.runs.files import read_part, read_tensors

from .batches import pieces

if TYPE_CHECKING:
    from .steps import ReplayStep
    from .tasks import PartTask

_TARGET_TEXT = ("target_victim", "utterance", "label", "prediction_before", "prediction_after")
_TARGET_TRUTH = ("source_correct", "source_success", "correct_before", "success")


@cache
def replay_schema() -> Any:
    """The columns of `replays.parquet`: those of the source's cell, then the target's answer.

    `source_correct` and `source_success` are the source's own `correct_before` and `success`;
    `correct_before`, `prediction_before`, `prediction_after` and `success` the target's.
    """
    import pyarrow as pa

    from sigma_ser.core.rows import schema

    rows = schema()
    return pa.schema(
        [rows.field(name) for name in CELL_COLUMNS]
        + [pa.field(name, pa.string()) for name in _TARGET_TEXT]
        + [pa.field("target_seed", pa.int64())]
        + [pa.field(name, pa.bool_()) for name in _TARGET_TRUTH]
    )


class Perturbations:
    """What attacks changed, of each utterance its changed elements alone."""

    def __init__(self) -> None:
        self._tensors: dict[str, Tensor] = {}

    def add(self, batch: FeatureBatch, x_adv: Float[Tensor, "B T D"]) -> None:
        """Keep the changed values of each utterance, bit for bit."""
        for row, (name, length) in enumerate(zip(batch.ids, batch.lengths.tolist(), strict=True)):
            clean, changed = (x[row, :length].flatten().cpu() for x in (batch.x, x_adv))
            places = (clean != changed).nonzero()[:, 0]
            self._tensors[f"{name}/places"] = places.int()
            self._tensors[f"{name}/values"] = changed[places].contiguous()

    def save(self, path: Path) -> None:
        """Write them, whole or not at all."""
        from safetensors.torch import save_file

        with whole_file(path) as aside:
            save_file(self._tensors, aside)

    @classmethod
    def load(cls, path: Path, rows: Path) -> Perturbations:
        """What `save` wrote.

        Args:
            path: that it was saved to.
            rows: of the same part; while these are there, the attack is not run again.

        Raises:
            RunError: if the file is missing or damaged.
        """
        kept = cls()
        kept._tensors = read_tensors(
            path,
            f"delete the rows beside it, {rows.name}, and run again: the attack on this part is "
            "made anew, and the rest is kept",
        )
        return kept

    def applied(self, batch: FeatureBatch) -> Float[Tensor, "B T D"]:
        """The features after the attack."""
        x = batch.x.clone()
        for row, (name, length) in enumerate(zip(batch.ids, batch.lengths.tolist(), strict=True)):
            flat = x[row, :length].reshape(-1)
            flat[self._tensors[f"{name}/places"].long()] = self._tensors[f"{name}/values"]
            x[row, :length] = flat.view(length, -1)
        return x


def replay(task: PartTask, step: ReplayStep) -> None:
    """Show the perturbations of one part to another victim and write its answers."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows = task.paths.rows(step.source, task.part)
    source = read_part(rows, schema()).to_pydict()
    kept = Perturbations.load(task.paths.perturbations(step.source, task.part), rows)
    told: dict[str, list[Any]] = {name: source[name] for name in CELL_COLUMNS}
    told |= {name: source[name] for name in ("utterance", "label")}
    told |= {"source_correct": source["correct_before"], "source_success": source["success"]}
    count = len(source["utterance"])
    told |= {"target_victim": [step.victim.name] * count, "target_seed": [step.victim.seed] * count}
    before: list[int] = []
    after: list[int] = []
    truth: list[int] = []
    for piece in pieces(task):
        x_adv = kept.applied(piece.batch)
        with torch.inference_mode():
            before += piece.victim(piece.batch.x, piece.batch.lengths).argmax(1).tolist()
            after += piece.victim(x_adv, piece.batch.lengths).argmax(1).tolist()
        truth += piece.labels.tolist()
    names = piece.class_names
    told |= {
        "prediction_before": [names[one] for one in before],
        "prediction_after": [names[one] for one in after],
        "correct_before": [a == b for a, b in zip(before, truth, strict=True)],
        "success": [a != b for a, b in zip(after, truth, strict=True)],
    }
    with whole_file(task.target) as aside:
        pq.write_table(pa.Table.from_pydict(told, schema=replay_schema()), aside)
