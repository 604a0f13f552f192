"""What a worker does: train, explain, take a floor, attack, replay, or show one utterance in full.

A task reads what earlier steps left on disk and writes one file whole, unless that file is there.
What it writes depends on the task alone.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

import torch

from sigma_ser.attacks.factory import make_attack
from sigma_ser.attacks.gradient_checks import check_gradients
from sigma_ser.core.budget import Budget
from sigma_ser.core.errors import ConfigError, RunError, SigmaError, StoreError
from sigma_ser.core.files import Seal, whole_file, write_json, write_tensors
from sigma_ser.core.rows import schema
from sigma_ser.evaluate.consistency.floor import consistency_floor
from sigma_ser.execution.devices import ready
from sigma_ser.execution.executor import Fault
from sigma_ser.explainers.relative_time import fold
from sigma_ser.runs.layout import RunLayout
from sigma_ser.victims.evaluation import evaluate
from sigma_ser.victims.exposure import known_recordings
from sigma_ser.victims.settings import AdversarialTraining
from sigma_ser.victims.training import train

from .alarms import fit_part, score_part
from .artifacts import Artifacts
from .audio_columns import Columns
from .batches import StoredExplainer, step_batch, step_batches
from .cell import attack_of, corrupted, measure
from .certificates import certify_part
from .exemplars import exemplar
from .steps import (
    AlarmScoreStep,
    AlarmStep,
    AttackStep,
    CertificateStep,
    CorruptionStep,
    ExemplarStep,
    FloorStep,
    GradientStep,
    ReplayStep,
    SaliencyStep,
    UniversalStep,
    VictimStep,
)
from .tasks import PartTask, Task, VictimTask
from .transfer import Perturbations, replay

if TYPE_CHECKING:
    import pyarrow as pa

UNIVERSAL_BINS = 10


@dataclass(frozen=True)
class Worker:
    """Does tasks of one run; entered once in each worker process, it keeps artefacts open."""

    layout: RunLayout
    device: str = "cpu"
    _opened: list[Artifacts] = field(default_factory=list, compare=False, repr=False)

    @property
    def imports(self) -> tuple[str, ...]:
        """What all tasks import: this module, measures, and the model of an encoder in memory.

        An optimiser imports `torch._dynamo`, and pyarrow pandas where it is installed.
        """
        models = (name for name in sys.modules if name.startswith("transformers.models."))
        return (
            __name__,
            "scipy.stats",
            "pandas",
            "torch._dynamo",
            *(name for name in models if ".modeling_" in name),
        )

    def __enter__(self) -> Worker:
        self._opened.append(Artifacts(self.layout, ready(self.device)))
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        fault: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._opened.pop().__exit__(kind, fault, trace)

    def __call__(self, task: Task) -> Fault | None:
        """Do a task; a fault that may concern this task alone is returned, others are raised."""
        try:
            work(task, self._opened[-1])
        except (OSError, ConfigError, RunError, StoreError):
            # The disk, the study or the run folder is at fault: the next task would fail as well.
            raise
        except SigmaError as fault:
            if isinstance(task, VictimTask):
                raise
            return Fault(str(fault), final=True)
        except Exception as fault:
            return Fault(f"{type(fault).__name__}: {fault}", final=False)
        return None


def work(task: Task, artifacts: Artifacts) -> Path:
    """Do one task, unless its file is there already; returns the file."""
    if task.target.exists():
        return task.target
    if isinstance(task, VictimTask):
        _prepare_victim(task, task.step, artifacts)
        return task.target
    match task.step:
        case GradientStep():
            _check_gradients(task, task.step, artifacts)
        case UniversalStep():
            _universal(task, task.step, artifacts)
        case SaliencyStep():
            _explain(task, task.step, artifacts)
        case FloorStep():
            _floor(task, task.step, artifacts)
        case AttackStep():
            _attack(task, task.step, artifacts)
        case CorruptionStep():
            batches = step_batches(task, artifacts)
            columns = [corrupted(here, task.step) for here in batches]
            _write_rows(task.target, columns, artifacts.digests.seal)
        case ReplayStep():
            _write_table(task.target, replay(task, task.step, artifacts), artifacts.digests.seal)
        case CertificateStep():
            table = certify_part(task, task.step, artifacts)
            _write_table(task.target, table, artifacts.digests.seal)
        case AlarmStep() | AlarmScoreStep():
            _alarm(task, task.step, artifacts)
        case ExemplarStep():
            exemplar(task, task.step, artifacts).save(task.target, artifacts.digests.seal)
    return task.target


def _prepare_victim(task: VictimTask, step: VictimStep, artifacts: Artifacts) -> None:
    layout, digests = task.layout, artifacts.digests
    started = time.perf_counter()
    if step.source is None:
        folder = train(
            artifacts.store(step.setting),
            step.fold,
            step.head,
            step.seed,
            head_settings=step.head_settings,
            adversarial=_hardening(step),
            **step.training,
        ).save(layout.victim(step.folder))
        for path in sorted(folder.glob("*")):
            digests.record(path)
        timing = {"train_seconds": time.perf_counter() - started}
        write_json(task.target, timing, digests.seal)
        return
    loaded, view = artifacts.victim(step), artifacts.view(step)
    artifacts.class_indices(step, view.labels([]), view.class_names)
    scores = evaluate(loaded, view, step.fold.test)
    known = known_recordings(loaded, artifacts.store(step.setting), step.fold.test)
    card = {"source": step.source, "metrics": {"test": scores}, "known_recordings": len(known)}
    write_json(layout.victim_card(step.folder), card, digests.seal)
    write_json(task.target, {"train_seconds": None}, digests.seal)


def _hardening(step: VictimStep) -> AdversarialTraining | None:
    """Adversarial training, where the study asks for it."""
    if step.adversarial is None:
        return None
    settings = dict(step.adversarial)
    budget = Budget(sparsity=settings.pop("sparsity"), epsilon=settings.pop("epsilon"))
    share = settings.pop("share")
    attack = make_attack(settings.pop("attack"), **settings)
    return AdversarialTraining(attack=attack, budget=budget, share=share)


def _check_gradients(task: PartTask, step: GradientStep, artifacts: Artifacts) -> None:
    here = step_batch(artifacts, task, step.victim, slice(None))
    check = check_gradients(here.victim, here.batch, here.labels, step.budget.of(here.batch))
    write_json(task.target, check.record(), artifacts.digests.seal)


def _universal(task: PartTask, step: UniversalStep, artifacts: Artifacts) -> None:
    total, passes = None, 0
    for here in step_batches(task, artifacts):
        bank = here.bank(step)
        scores = bank.scores(here.batch, here.labels)
        mean = fold(scores, here.batch.lengths, bins=UNIVERSAL_BINS)[0] * len(here.batch)
        total = mean if total is None else total + mean
        explanation = bank.explain(here.batch, here.labels)
        passes += int(explanation.forwards.sum() + explanation.backwards.sum())
    assert total is not None
    maps = {"map": total / len(task.utterances)}
    write_tensors(task.target, maps, {"passes": str(passes)}, artifacts.digests.seal)


def _explain(task: PartTask, step: SaliencyStep, artifacts: Artifacts) -> None:
    seconds: dict[str, float | None] = {}
    for here in step_batches(task, artifacts):
        started = time.perf_counter()
        made = here.bank(step).fill(here.batch, here.labels)
        each = (time.perf_counter() - started) / len(here.batch)
        # The time of a map that was already there is unknown: another run or attempt spent it.
        known = each if made == len(here.batch) else None
        seconds |= dict.fromkeys(here.batch.ids, known)
    bank = artifacts.bank(step, task.seed)
    write_json(task.target, {"bank": bank.key, "seconds": seconds}, artifacts.digests.seal)


def _floor(task: PartTask, step: FloorStep, artifacts: Artifacts) -> None:
    scores = []
    for here in step_batches(task, artifacts):
        bank = here.bank(step.reference)
        scores.append(
            consistency_floor(
                StoredExplainer(bank),
                here.victim,
                here.batch,
                here.labels,
                step.budget.of(here.batch),
                mask=here.mask(step),
                frame_seconds=step.victim.setting.frame_seconds,
                clean=bank.explain(here.batch, here.labels).saliency,
                seeds=bank.seeds(here.batch),
            )
        )
    joined = {name: torch.cat([part[name] for part in scores]).double() for name in scores[0]}
    write_tensors(task.target, joined, seal=artifacts.digests.seal)


def _attack(task: PartTask, step: AttackStep, artifacts: Artifacts) -> None:
    attack = attack_of(step)
    kept = Perturbations() if step.keep_perturbations else None
    columns = [measure(here, step, attack, kept) for here in step_batches(task, artifacts)]
    if kept is not None:
        # Before the rows, whose presence says that all is there.
        kept.save(task.layout.perturbations(step.key, task.part), artifacts.digests.seal)
    _write_rows(task.target, columns, artifacts.digests.seal)


def _alarm(task: PartTask, step: AlarmStep | AlarmScoreStep, artifacts: Artifacts) -> None:
    seal = artifacts.digests.seal
    if isinstance(step, AlarmStep):
        write_tensors(task.target, fit_part(task, step, artifacts), seal=seal)
    else:
        _write_table(task.target, score_part(task, step, artifacts), seal)


def _write_rows(path: Path, batches: Sequence[Columns], seal: Seal) -> None:
    import pyarrow as pa

    tables = [pa.Table.from_pydict(columns, schema=schema()) for columns in batches]
    _write_table(path, pa.concat_tables(tables), seal)


def _write_table(path: Path, table: pa.Table, seal: Seal) -> None:
    import pyarrow.parquet as pq

    with whole_file(path, seal) as aside:
        pq.write_table(table, aside)
