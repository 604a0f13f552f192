"""What a worker does: train, explain, take a floor, attack or replay one part of one step.

Each function takes a plain task, reads what earlier steps left on disk, writes one file whole, and
does nothing if that file is there. What it writes depends on the task alone.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from sigma_ser.core.budget import Budget
from sigma_ser.core.contracts import Attack
from sigma_ser.core.files import whole_file, write_json
from sigma_ser.core.rows import schema

from .artifacts import class_indices, load_store, load_victim, victim_store
from .batches import AsKept, pieces
from .cell import measure
from .steps import AttackStep, FloorStep, ReplayStep, SaliencyStep, UniversalStep, VictimStep
from .tasks import PartTask, VictimTask
from .transfer import Perturbations, replay

if TYPE_CHECKING:
    from sigma_ser.victims.settings import AdversarialTraining

UNIVERSAL_BINS = 10


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
                    replay(task, task.step)
    return task.target


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
    loaded, heard = load_victim(task.paths, step), victim_store(task.paths, step)
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

    from sigma_ser.explainers.relative_time import fold

    total, passes = None, 0
    for piece in pieces(task):
        bank = piece.bank(step)
        scores = bank.scores(piece.batch, piece.labels)
        mean = fold(scores, piece.batch.lengths, bins=UNIVERSAL_BINS)[0] * len(piece.batch)
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

    from sigma_ser.evaluate.consistency.floor import consistency_floor

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
