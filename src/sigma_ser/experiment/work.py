"""What a worker does: explain, take a floor, or attack one part of one step.

Each function takes a plain task, reads what earlier steps left on disk, writes one file whole, and
does nothing if that file is there. What it writes depends on the task alone.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from sigma_ser.core.budget import Budget
from sigma_ser.core.contracts import Attack, Explanation, MapKind, Victim
from sigma_ser.core.features import FeatureBatch
from sigma_ser.core.files import whole_file, write_json
from sigma_ser.core.rows import schema
from sigma_ser.core.utterance import Utterance

from .plan import AttackStep, FloorStep, SaliencyStep, VictimStep

if TYPE_CHECKING:
    from sigma_ser.encoders.store import FeatureStore
    from sigma_ser.masks.bank import MaskBank
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
        """File that says that the maps of one part are in the bank, and what they took."""
        return self.folder / "saliency" / "done" / step.key / f"part-{part:05d}.json"

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

    def bank(self, step: SaliencyStep) -> MaskBank:
        """The maps of one explainer on one victim."""
        return load_bank(self.task.paths, step, self.task.conditions.seed)

    def mask_seconds(self, step: SaliencyStep) -> list[float]:
        """How long each utterance was explained when its map was made."""
        done = self.task.paths.saliency(step, self.task.part).read_text("utf-8")
        seconds: list[float] = json.loads(done)["seconds"][self.rows]
        return seconds

    def mask(self, step: FloorStep | AttackStep) -> Bool[Tensor, "B T D"] | None:
        """The mask of a cell, out of the bank; native cells have none."""
        if step.mask is None or step.scope is None:
            return None
        bank = self.bank(step.mask)
        return bank.mask(self.batch, self.labels, Budget(**step.budget), step.scope)


@dataclass(frozen=True)
class AsKept:
    """The explainer of a bank, with every map rounded as the bank keeps it."""

    bank: MaskBank

    @property
    def kind(self) -> MapKind:
        """As that of the explainer."""
        return self.bank.explainer.kind

    def __call__(
        self,
        victim: Victim,
        batch: FeatureBatch,
        labels: Int[Tensor, "B"],
        *,
        seeds: Int[Tensor, "B"] | None = None,
    ) -> Explanation:
        """Explain, then round."""
        return self.bank.as_kept(self.bank.explainer(victim, batch, labels, seeds=seeds), batch)


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
    seconds: list[float] = []
    for piece in pieces(task):
        started = time.perf_counter()
        piece.bank(step).fill(piece.batch, piece.labels)
        seconds += [(time.perf_counter() - started) / len(piece.batch)] * len(piece.batch)
    write_json(task.target, {"bank": piece.bank(step).key, "seconds": seconds})


def _floor(task: PartTask, step: FloorStep) -> None:
    from safetensors.torch import save_file

    from sigma_ser.evaluate.consistency_floor import consistency_floor

    victim = load_victim(task.paths.victim(step.victim))
    scores = []
    for piece in pieces(task):
        bank = piece.bank(step.reference)
        scores.append(
            consistency_floor(
                AsKept(bank),
                victim,
                piece.batch,
                piece.labels,
                Budget(**step.budget),
                mask=piece.mask(step),
                frame_seconds=task.conditions.frame_seconds,
                clean=bank.explain(piece.batch, piece.labels).saliency,
                seeds=bank.seeds(piece.batch),
            )
        )
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


def make_attack(step: AttackStep) -> Attack:
    """The attack that a step names, with its settings."""
    from sigma_ser.attacks.factory import attack

    return attack(step.attack, **step.settings)


def load_bank(paths: RunPaths, step: SaliencyStep, seed: int) -> MaskBank:
    """The bank of a step, opened once in each process."""
    return _bank(paths, paths.victim(step.victim), step.name, json.dumps(dict(step.settings)), seed)


@lru_cache(maxsize=16)
def _bank(paths: RunPaths, victim: Path, explainer: str, settings: str, seed: int) -> MaskBank:
    from sigma_ser.explainers.explanation import make_explainer
    from sigma_ser.masks.bank import MaskBank

    return MaskBank(
        paths.folder / "saliency",
        make_explainer(explainer, **json.loads(settings)),
        load_victim(victim),
        features=paths.features.name,
        seed=seed,
    )


def close_opened() -> None:
    """Forget stores, victims and banks that this process has open."""
    for opened in (_store, load_victim, _bank):
        opened.cache_clear()


@lru_cache(maxsize=4)
def _store(folder: Path) -> FeatureStore:
    from sigma_ser.encoders.store import FeatureStore

    return FeatureStore(folder)


@lru_cache(maxsize=8)
def load_victim(folder: Path) -> TrainedVictim:
    """A trained victim, read once in each process."""
    from sigma_ser.victims.checkpoint import TrainedVictim

    return TrainedVictim.load(folder)
