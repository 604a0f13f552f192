"""Perturbations kept on disk: replayed on other victims, or written as audio."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from sigma_ser.audio.writing import Provenance, write_flac
from sigma_ser.core.features import FeatureBatch
from sigma_ser.core.files import Seal, safe_name, write_tensors
from sigma_ser.core.rows import CELL_COLUMNS, schema
from sigma_ser.corpora.corpus import Corpus
from sigma_ser.corpora.waveforms import waveforms
from sigma_ser.runs.files import read_part, read_tensors
from sigma_ser.runs.layout import RunLayout

from .artifacts import Artifacts
from .audio_columns import recognised
from .batches import StepBatch, step_batches
from .mask_sources import name_beside
from .steps import ReplayStep
from .tasks import PartTask

if TYPE_CHECKING:
    import pyarrow as pa

# The budget and the cell of a file of perturbed audio.
_BUDGET = ("granularity", "sparsity", "epsilon", "budget_snr")
_CELL = ("victim", "attack", "attack_seed", "explainer", "mask_source", "scope", *_BUDGET)
_TARGET_TEXT = ("target_victim", "utterance", "label", "prediction_before", "prediction_after")
_TARGET_TRUTH = ("source_correct", "source_success", "correct_before", "success")


@cache
def replay_schema() -> pa.Schema:
    """The columns of `replays.parquet`: those of the source's cell, then the target's predictions.

    `source_correct` and `source_success` are the source's own `correct_before` and `success`;
    `correct_before`, `prediction_before`, `prediction_after` and `success` the target's. On the
    waveform all of them are after the round trip: the target is given the files. A target on
    another encoder is named `victim@encoder:layer`.
    """
    import pyarrow as pa

    rows = schema()
    return pa.schema(
        [rows.field(name) for name in CELL_COLUMNS]
        + [pa.field(name, pa.string()) for name in _TARGET_TEXT]
        + [pa.field("target_seed", pa.int64())]
        + [pa.field(name, pa.bool_()) for name in _TARGET_TRUTH]
    )


class Perturbations:
    """Perturbed features of some utterances; only the changed elements are kept."""

    def __init__(self) -> None:
        self._tensors: dict[str, Tensor] = {}

    def add(self, batch: FeatureBatch, x_adv: Float[Tensor, "B T D"]) -> None:
        """Keep the changed values of each utterance, bit for bit."""
        for row, (name, length) in enumerate(zip(batch.ids, batch.lengths.tolist(), strict=True)):
            clean, changed = (x[row, :length].flatten().cpu() for x in (batch.x, x_adv))
            places = (clean != changed).nonzero()[:, 0]
            self._tensors[f"{name}/places"] = places.int()
            self._tensors[f"{name}/values"] = changed[places].contiguous()

    def save(self, path: Path, seal: Seal | None = None) -> None:
        """Write one file, whole or not at all; `seal` as for `whole_file`."""
        write_tensors(path, self._tensors, seal=seal)

    @classmethod
    def load(cls, path: Path) -> Perturbations:
        """Read what `save` wrote.

        Raises:
            DamagedRunError: if the file is missing or damaged.
        """
        kept = cls()
        kept._tensors = read_tensors(path)
        return kept

    def applied(self, batch: FeatureBatch) -> Float[Tensor, "B T D"]:
        """The features after the attack."""
        x = batch.x.clone()
        for row, (name, length) in enumerate(zip(batch.ids, batch.lengths.tolist(), strict=True)):
            flat = x[row, :length].reshape(-1)
            places = self._tensors[f"{name}/places"].long()
            flat[places.to(x.device)] = self._tensors[f"{name}/values"].to(x.device)
            x[row, :length] = flat.view(length, -1)
        return x


def replay(task: PartTask, step: ReplayStep, artifacts: Artifacts) -> pa.Table:
    """The predictions of another victim on the perturbations of one part."""
    import pyarrow as pa

    layout, key = task.layout, step.source.key
    rows, perturbations = layout.attack(key, task.part), layout.perturbations(key, task.part)
    for path in (rows, perturbations):
        artifacts.digests.check(path)
    source = read_part(rows, schema()).to_pydict()
    kept = Perturbations.load(perturbations)
    before: list[int] = []
    after: list[int] = []
    truth: list[int] = []
    names: tuple[str, ...] = ()
    for here in step_batches(task, artifacts):
        before += _classes(here, here.batch.x).tolist()
        after += _classes(here, kept.applied(here.batch)).tolist()
        truth += here.labels.tolist()
        names = here.class_names
    trip = "" if step.victim.on_features is None else "round_trip_"
    name = name_beside(step.victim, step.source.victim)
    columns: dict[str, list[Any]] = {
        **{name: source[name] for name in (*CELL_COLUMNS, "utterance", "label")},
        "source_correct": source[f"{trip}correct" if trip else "correct_before"],
        "source_success": source[f"{trip}success"],
        "target_victim": [name] * len(truth),
        "target_seed": [step.victim.seed] * len(truth),
        "prediction_before": [names[one] for one in before],
        "prediction_after": [names[one] for one in after],
        "correct_before": [a == b for a, b in zip(before, truth, strict=True)],
        "success": [a != b for a, b in zip(after, truth, strict=True)],
    }
    return pa.Table.from_pydict(columns, schema=replay_schema())


def _classes(here: StepBatch, x: Float[Tensor, "B T D"]) -> Int[Tensor, "B"]:
    """The predictions of a victim; on the waveform, those after the round trip."""
    if here.task.step.victim.on_features is not None:
        return recognised(here, x)
    with torch.inference_mode():
        return here.victim(x, here.batch.lengths).argmax(1)


def save_audio(layout: RunLayout, corpus: Corpus, folder: Path) -> int:
    """Write the perturbed recordings of a run as 16-bit FLAC files with provenance in their tags.

    Args:
        layout: of a run on the waveform that kept its perturbations.
        corpus: the recordings.
        folder: receives one folder for each cell, and in it one file for each utterance.

    Returns:
        The number of files.

    Raises:
        DamagedRunError: if a file of the run is damaged.
        OSError: if a file cannot be written.
    """
    count = 0
    for path in sorted(layout.folder.glob("attacks/*/part-*.parquet")):
        number = int(path.stem.removeprefix("part-"))
        perturbations = layout.perturbations(path.parent.name, number)
        if not perturbations.exists():
            continue
        kept = Perturbations.load(perturbations)
        for row in read_part(path, schema()).to_pylist():
            name = row["utterance"]
            clean = waveforms(corpus, [name])
            wave = kept.applied(clean)[0, :, 0].numpy()
            about = Provenance(
                original=name,
                attack=row["attack_settings"],
                budget={one: row[one] for one in (*_BUDGET, "bound")},
            )
            # Cells may differ in settings of the attack alone, which the key stands for.
            cell = f"{_cell(row)}-{path.parent.name[:8]}"
            write_flac(folder / cell / f"{safe_name(name)}.flac", wave, about)
            count += 1
    return count


def _cell(row: Mapping[str, Any]) -> str:
    """The name of a cell, as that of a folder."""
    values = (f"{row[name]:g}" if isinstance(row[name], float) else row[name] for name in _CELL)
    return safe_name("-".join(str(value) for value in values if value is not None))
