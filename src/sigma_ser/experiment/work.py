"""What a worker does: explain, take a floor, or attack one part of one step.

Each function takes a plain task, reads what earlier steps left on disk, writes one file whole, and
does nothing if that file is there. What it writes depends on the task alone.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from sigma_ser.core.budget import Budget
from sigma_ser.core.contracts import Attack, Explainer
from sigma_ser.core.features import FeatureBatch
from sigma_ser.core.files import whole_file, write_json
from sigma_ser.core.rows import schema
from sigma_ser.core.seeds import utterance_seeds
from sigma_ser.core.utterance import Utterance

from .maps import AtKeptPrecision, MapWriter, read_costs, read_maps
from .plan import AttackStep, FloorStep, SaliencyStep, VictimStep

if TYPE_CHECKING:
    from sigma_ser.encoders.store import FeatureStore
    from sigma_ser.victims.checkpoint import TrainedVictim


@dataclass(frozen=True)
class RunPaths:
    """Where a run keeps its artefacts."""

    folder: Path
    features: Path

    def victim(self, step: VictimStep) -> Path:
        """Folder of a trained victim."""
        return self.folder / "victims" / step.key

    def saliency(self, step: SaliencyStep, part: int) -> Path:
        """File with the maps of one part."""
        return self.folder / "saliency" / step.key / f"part-{part:05d}.safetensors"

    def floor(self, step: FloorStep, part: int) -> Path:
        """File with the floors of one part."""
        return self.folder / "floors" / step.key / f"part-{part:05d}.safetensors"

    def rows(self, step: AttackStep, part: int) -> Path:
        """File with the rows of one part."""
        return self.folder / "attacks" / step.key / f"part-{part:05d}.parquet"


@dataclass(frozen=True)
class Conditions:
    """What holds for the whole study, and every row repeats."""

    corpus: str
    protocol: str
    encoder: str
    layer: str
    frame_seconds: float
    batch_size: int
    seed: int


@dataclass(frozen=True)
class TrainTask:
    """One victim to train."""

    paths: RunPaths
    step: VictimStep

    @property
    def target(self) -> Path:
        """The file that is written last."""
        return self.paths.victim(self.step) / "timing.json"


@dataclass(frozen=True)
class PartTask:
    """One part of one step."""

    paths: RunPaths
    conditions: Conditions
    step: SaliencyStep | FloorStep | AttackStep
    part: int
    utterances: tuple[Utterance, ...]

    @property
    def target(self) -> Path:
        """The file that this task writes."""
        match self.step:
            case SaliencyStep():
                return self.paths.saliency(self.step, self.part)
            case FloorStep():
                return self.paths.floor(self.step, self.part)
            case AttackStep():
                return self.paths.rows(self.step, self.part)


@dataclass(frozen=True, eq=False)
class Piece:
    """One batch of a part: `rows` says where in the part it lies."""

    task: PartTask
    batch: FeatureBatch
    labels: Int[Tensor, "B"]
    rows: slice

    @property
    def utterances(self) -> tuple[Utterance, ...]:
        """What is known about each utterance."""
        return self.task.utterances[self.rows]

    def maps(self, step: SaliencyStep) -> Float[Tensor, "B T D"]:
        """The maps that an earlier step kept."""
        return read_maps(self.task.paths.saliency(step, self.task.part), self.rows)

    def costs(self, step: SaliencyStep) -> Mapping[str, Tensor]:
        """What these maps cost, `(B,)` each."""
        return read_costs(self.task.paths.saliency(step, self.task.part), self.rows)

    def explain_seeds(self, step: SaliencyStep) -> Int[Tensor, "B"]:
        """The same noise whenever this explainer looks at these utterances."""
        return utterance_seeds(self.batch.ids, self.task.conditions.seed, "explain", step.name)

    def mask(self, step: FloorStep | AttackStep) -> Bool[Tensor, "B T D"] | None:
        """The mask of a cell, from the maps that an earlier step kept; native cells have none."""
        from sigma_ser.masks.topk import ranking_scale, topk_mask

        if step.mask is None or step.scope is None:
            return None
        # A gradient ranks by the scale of the victim that it belongs to.
        source = load_victim(self.task.paths.victim(step.mask.victim))
        scale = ranking_scale(make_explainer(step.mask).kind, source, self.batch)
        return topk_mask(
            self.maps(step.mask), self.batch.lengths, Budget(**step.budget), step.scope, scale=scale
        )


def train_victim(task: TrainTask) -> Path:
    """Train and save one victim, unless it is there; returns the file written last."""
    from sigma_ser.victims.training import train

    step = task.step
    if not task.target.exists():
        started = time.perf_counter()
        victim = train(
            _store(task.paths.features),
            step.fold,
            step.head,
            step.seed,
            head_settings=step.head_settings,
            **step.training,
        )
        victim.save(task.target.parent)
        write_json(task.target, {"train_seconds": time.perf_counter() - started})
    return task.target


def work(task: PartTask) -> Path:
    """Do one task, unless its file is there already; returns the file."""
    if not task.target.exists():
        match task.step:
            case SaliencyStep():
                _explain(task, task.step)
            case FloorStep():
                _floor(task, task.step)
            case AttackStep():
                _attack(task, task.step)
    return task.target


def _explain(task: PartTask, step: SaliencyStep) -> None:
    victim = load_victim(task.paths.victim(step.victim))
    explainer = make_explainer(step)
    writer = MapWriter()
    for piece in pieces(task):
        started = time.perf_counter()
        explanation = explainer(victim, piece.batch, piece.labels, seeds=piece.explain_seeds(step))
        writer.add(piece.batch, explanation, time.perf_counter() - started)
    writer.write(task.target)


def _floor(task: PartTask, step: FloorStep) -> None:
    from safetensors.torch import save_file

    from sigma_ser.evaluate.consistency_floor import consistency_floor

    victim = load_victim(task.paths.victim(step.victim))
    explainer = make_explainer(step.reference)
    scores = [
        consistency_floor(
            explainer,
            victim,
            piece.batch,
            piece.labels,
            Budget(**step.budget),
            mask=piece.mask(step),
            frame_seconds=task.conditions.frame_seconds,
            clean=piece.maps(step.reference),
            seeds=piece.explain_seeds(step.reference),
        )
        for piece in pieces(task)
    ]
    joined = {name: torch.cat([part[name] for part in scores]).double() for name in scores[0]}
    with whole_file(task.target) as aside:
        save_file(joined, aside)


def _attack(task: PartTask, step: AttackStep) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    from .measurement import measure

    attack = make_attack(step)
    tables = [
        pa.Table.from_pydict(measure(piece, step, attack), schema=schema())
        for piece in pieces(task)
    ]
    with whole_file(task.target) as aside:
        pq.write_table(pa.concat_tables(tables), aside)


def pieces(task: PartTask) -> Iterator[Piece]:
    """The batches of a part; what is in them is fixed by the plan."""
    store = _store(task.paths.features)
    size = task.conditions.batch_size
    for start in range(0, len(task.utterances), size):
        rows = slice(start, start + size)
        ids = [utterance.id for utterance in task.utterances[rows]]
        yield Piece(task, store.batch(ids), store.labels(ids), rows)


def make_explainer(step: SaliencyStep) -> Explainer:
    """The explainer that a step names, with its settings, at the precision of kept maps."""
    from sigma_ser.explainers.explanation import make_explainer as make

    return AtKeptPrecision(make(step.name, **step.settings))


def make_attack(step: AttackStep) -> Attack:
    """The attack that a step names, with its settings."""
    from sigma_ser.attacks.factory import attack

    return attack(step.attack, **step.settings)


@lru_cache(maxsize=4)
def _store(folder: Path) -> FeatureStore:
    from sigma_ser.encoders.store import FeatureStore

    return FeatureStore(folder)


@lru_cache(maxsize=8)
def load_victim(folder: Path) -> TrainedVictim:
    """A trained victim, read once in each process."""
    from sigma_ser.victims.checkpoint import TrainedVictim

    return TrainedVictim.load(folder)
