"""What a worker does: train, explain, take a floor, attack or replay one part of one step.

Each function takes a plain task, reads what earlier steps left on disk, writes one file whole, and
does nothing if that file is there. What it writes depends on the task alone.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
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
from sigma_ser.masks.bank import MaskBank

from .opened import (
    RunPaths,
    class_indices,
    heard_store,
    load_bank,
    load_store,
    load_victim,
)
from .steps import (
    AttackStep,
    FloorStep,
    Part,
    PartStep,
    ReplayStep,
    SaliencyStep,
    UniversalStep,
    VictimStep,
)

if TYPE_CHECKING:
    from sigma_ser.victims.settings import AdversarialTraining

UNIVERSAL_BINS = 10


@dataclass(frozen=True)
class VictimTask:
    """One victim to train, or to score where it is loaded."""

    paths: RunPaths
    step: VictimStep

    @property
    def target(self) -> Path:
        """The file that is written last."""
        return self.paths.victim(self.step) / "timing.json"

    @property
    def needs(self) -> tuple[Path, ...]:
        """What must be there before."""
        return ()

    @property
    def utterances(self) -> Part:
        """Those that would be missing in the rows: none by itself."""
        return ()


@dataclass(frozen=True)
class PartTask:
    """One part of one step; `utterances` go in batches of `batch_size`."""

    paths: RunPaths
    step: PartStep | UniversalStep
    part: int
    utterances: Part
    batch_size: int
    seed: int

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
            case ReplayStep():
                return self.paths.replay(self.step, self.part)
            case UniversalStep():
                return self.paths.universal(self.step)

    @property
    def needs(self) -> tuple[Path, ...]:
        """Files of earlier stages without which the task cannot be done."""
        paths, step = self.paths, self.step
        needed = [VictimTask(paths, step.victim).target]
        if isinstance(step, FloorStep | AttackStep) and step.mask is not None:
            needed += [
                paths.universal(one) if isinstance(one, UniversalStep)
                else paths.saliency(one, self.part)
                for one in step.mask.origins
            ]  # fmt: skip
        if isinstance(step, AttackStep) and step.floor is not None:
            needed.append(paths.floor(step.floor, self.part))
        if isinstance(step, ReplayStep):
            needed.append(paths.rows(step.source, self.part))
        return tuple(needed)


@dataclass(frozen=True, eq=False)
class Piece:
    """One batch of a part: `rows` says where in the part it lies."""

    task: PartTask
    batch: FeatureBatch
    labels: Int[Tensor, "B"]
    rows: slice

    @property
    def utterances(self) -> Sequence[Utterance]:
        """What is known about each utterance."""
        return self.task.utterances[self.rows]

    @cached_property
    def victim(self) -> Victim:
        """The victim of the step."""
        return load_victim(self.task.paths, self.task.step.victim)

    def bank(self, step: SaliencyStep | UniversalStep) -> MaskBank:
        """The maps of one explainer on one victim."""
        return load_bank(self.task.paths, step, self.task.seed)

    def seen_by(self, victim: VictimStep) -> Piece:
        """The same utterances as features and classes of another victim."""
        return piece_of(self.task, victim, self.rows)

    def mask(self, step: FloorStep | AttackStep) -> Bool[Tensor, "B T D"] | None:
        """The mask of a cell, out of the banks; native cells have none."""
        if step.mask is None or step.scope is None:
            return None
        from .masking import make_mask

        return make_mask(self, step.mask, Budget(**step.budget), step.scope)


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


def work(task: VictimTask | PartTask) -> Path:
    """Do one task, unless its file is there already; returns the file."""
    if not task.target.exists():
        if isinstance(task, VictimTask):
            _prepare_victim(task)
        else:
            match task.step:
                case UniversalStep():
                    _universal(task, task.step)
                case SaliencyStep():
                    _explain(task, task.step)
                case FloorStep():
                    _floor(task, task.step)
                case AttackStep():
                    _attack(task, task.step)
                case ReplayStep():
                    from .replay import replay

                    replay(task, task.step)
    return task.target


def pieces(task: PartTask) -> Iterator[Piece]:
    """The batches of a part; what is in them is fixed by the plan."""
    for start in range(0, len(task.utterances), task.batch_size):
        yield piece_of(task, task.step.victim, slice(start, start + task.batch_size))


def piece_of(task: PartTask, victim: VictimStep, rows: slice) -> Piece:
    """Some utterances of a part, as features and classes of a victim."""
    store = heard_store(task.paths, victim)
    ids = [utterance.id for utterance in task.utterances[rows]]
    labels = class_indices(task.paths, victim, store.labels(ids), store.class_names)
    return Piece(task, store.batch(ids), labels, rows)


def make_attack(step: AttackStep) -> Attack:
    """The attack that a step names, with its settings."""
    from sigma_ser.attacks.factory import attack

    return attack(step.attack, **step.settings)


def _prepare_victim(task: VictimTask) -> None:
    from sigma_ser.victims.evaluation import evaluate
    from sigma_ser.victims.training import train

    step, folder = task.step, task.target.parent
    store = load_store(task.paths, step.setting.features)
    started = time.perf_counter()
    if step.source is None:
        train(
            store,
            step.fold,
            step.head,
            step.seed,
            head_settings=step.head_settings,
            adversarial=_hardening(step),
            **step.training,
        ).save(folder)
        write_json(task.target, {"train_seconds": time.perf_counter() - started})
        return
    loaded, heard = load_victim(task.paths, step), heard_store(task.paths, step)
    class_indices(task.paths, step, heard.labels([]), heard.class_names)
    scores = evaluate(loaded, heard, step.fold.test)
    write_json(folder / "card.json", {"source": step.source, "metrics": {"test": scores}})
    write_json(task.target, {"train_seconds": None})


def _hardening(step: VictimStep) -> AdversarialTraining | None:
    if step.adversarial is None:
        return None
    from sigma_ser.attacks.factory import attack
    from sigma_ser.victims.settings import AdversarialTraining

    named = dict(step.adversarial)
    budget = Budget(sparsity=named.pop("sparsity"), epsilon=named.pop("epsilon"))
    share = named.pop("share")
    return AdversarialTraining(
        attack=attack(named.pop("attack"), **named), budget=budget, share=share
    )


def _universal(task: PartTask, step: UniversalStep) -> None:
    from safetensors.torch import save_file

    from sigma_ser.masks.combine import universal

    total, passes = None, 0
    for piece in pieces(task):
        bank = piece.bank(step)
        scores = bank.scores(piece.batch, piece.labels)
        mean = universal(scores, piece.batch.lengths, bins=UNIVERSAL_BINS)[0] * len(piece.batch)
        total = mean if total is None else total + mean
        told = bank.explain(piece.batch, piece.labels)
        passes += int(told.forwards.sum() + told.backwards.sum())
    assert total is not None
    with whole_file(task.target) as aside:
        save_file({"map": total / len(task.utterances)}, aside, {"passes": str(passes)})


def _explain(task: PartTask, step: SaliencyStep) -> None:
    seconds: dict[str, float | None] = {}
    for piece in pieces(task):
        started = time.perf_counter()
        made = piece.bank(step).fill(piece.batch, piece.labels)
        each = (time.perf_counter() - started) / len(piece.batch)
        # A map that was there already took its time in another run, or before this one was killed.
        known = each if made == len(piece.batch) else None
        seconds |= dict.fromkeys(piece.batch.ids, known)
    write_json(task.target, {"bank": piece.bank(step).key, "seconds": seconds})


def _floor(task: PartTask, step: FloorStep) -> None:
    from safetensors.torch import save_file

    from sigma_ser.evaluate.consistency_floor import consistency_floor

    scores = []
    for piece in pieces(task):
        bank = piece.bank(step.reference)
        scores.append(
            consistency_floor(
                AsKept(bank),
                piece.victim,
                piece.batch,
                piece.labels,
                Budget(**step.budget),
                mask=piece.mask(step),
                frame_seconds=step.victim.setting.frame_seconds,
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
    from .replay import Perturbations

    attack = make_attack(step)
    kept = Perturbations() if step.keep_perturbations else None
    tables = [
        pa.Table.from_pydict(measure(piece, step, attack, kept), schema=schema())
        for piece in pieces(task)
    ]
    if kept is not None:
        # Before the rows, whose presence says that all is there.
        kept.save(task.paths.perturbations(step, task.part))
    with whole_file(task.target) as aside:
        pq.write_table(pa.concat_tables(tables), aside)
