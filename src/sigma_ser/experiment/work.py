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
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from sigma_ser.core.budget import Budget
from sigma_ser.core.contracts import Attack, AttackResult, Explainer
from sigma_ser.core.features import FeatureBatch
from sigma_ser.core.files import whole_file
from sigma_ser.core.passes import per_channel
from sigma_ser.core.rows import CONSISTENCY_METRICS, schema
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
    victim = _victim(task.paths.victim(step.victim))
    explainer = make_explainer(step)
    writer = MapWriter()
    for batch, labels, _ in _batches(task):
        started = time.perf_counter()
        explanation = explainer(victim, batch, labels, seeds=_explain_seeds(task, batch, step))
        writer.add(batch, explanation, time.perf_counter() - started)
    writer.write(task.target)


def _floor(task: PartTask, step: FloorStep) -> None:
    from safetensors.torch import save_file

    from sigma_ser.evaluate.consistency_floor import consistency_floor

    victim = _victim(task.paths.victim(step.victim))
    explainer = make_explainer(step.reference)
    scores: list[dict[str, Tensor]] = []
    for batch, labels, rows in _batches(task):
        scores.append(
            consistency_floor(
                explainer,
                victim,
                batch,
                labels,
                Budget(**step.budget),
                mask=_mask(task, step.mask, step.scope, step.budget, batch, rows),
                frame_seconds=task.conditions.frame_seconds,
                clean=read_maps(task.paths.saliency(step.reference, task.part), rows),
                seeds=_explain_seeds(task, batch, step.reference),
            )
        )
    joined = {name: torch.cat([part[name] for part in scores]).double() for name in scores[0]}
    with whole_file(task.target) as aside:
        save_file(joined, aside)


def _attack(task: PartTask, step: AttackStep) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    attack = make_attack(step)
    tables = [
        pa.Table.from_pydict(_rows(task, step, attack, batch, labels, rows), schema=schema())
        for batch, labels, rows in _batches(task)
    ]
    with whole_file(task.target) as aside:
        pq.write_table(pa.concat_tables(tables), aside)


def _rows(
    task: PartTask,
    step: AttackStep,
    attack: Attack,
    batch: FeatureBatch,
    labels: Int[Tensor, "B"],
    rows: slice,
) -> dict[str, Any]:
    """Attack one batch and tell everything about it, a list for each column."""
    from sigma_ser.evaluate.size import sizes

    victim = _victim(task.paths.victim(step.victim))
    budget = Budget(**step.budget)
    mask = _mask(task, step.mask, step.scope, step.budget, batch, rows)
    started = time.perf_counter()
    seeds = utterance_seeds(batch.ids, task.conditions.seed, "attack", step.attack)
    result = attack(victim, batch, labels, budget, mask=mask, seeds=seeds)
    seconds = time.perf_counter() - started
    with torch.inference_mode():
        before = victim(batch.x, batch.lengths).softmax(1)
        after = victim(result.x_adv, batch.lengths).softmax(1)
    people = task.utterances[rows]
    names = victim.labels
    count = len(batch)
    passes = (result.forwards + result.backwards).double()
    size = sizes(batch, result.x_adv, per_channel(victim.scale, batch.x))
    columns: dict[str, Any] = {
        "corpus": [task.conditions.corpus] * count,
        "protocol": [task.conditions.protocol] * count,
        "fold": [step.victim.fold.name] * count,
        "encoder": [task.conditions.encoder] * count,
        "layer": [task.conditions.layer] * count,
        "victim": [step.victim.name] * count,
        "victim_seed": [step.victim.seed] * count,
        "utterance": [utterance.id for utterance in people],
        "speaker": [utterance.speaker for utterance in people],
        "text_id": [utterance.text_id for utterance in people],
        "label": [utterance.label for utterance in people],
        "duration": [utterance.seconds for utterance in people],
        "attack": [step.attack] * count,
        "attack_settings": [repr(attack)] * count,
        "attack_seed": [task.conditions.seed] * count,
        "explainer": [None if step.mask is None else step.mask.explainer] * count,
        "mask_source": [step.mask_source] * count,
        "scope": [step.scope] * count,
        "granularity": [budget.granularity] * count,
        "sparsity": [budget.sparsity] * count,
        "epsilon": [float(budget.epsilon)] * count,
        "budget_elements": budget.elements(batch.lengths, batch.x.shape[2]).tolist(),
        "prediction_before": [names[i] for i in before.argmax(1).tolist()],
        "prediction_after": [names[i] for i in result.prediction.tolist()],
        "confidence_before": before.amax(1).tolist(),
        "confidence_after": after.amax(1).tolist(),
        "correct_before": (before.argmax(1) == labels).tolist(),
        "success": result.success.tolist(),
        "steps": result.steps.tolist(),
        "forwards": result.forwards.tolist(),
        "backwards": result.backwards.tolist(),
        "seconds": (seconds * passes / passes.sum()).tolist(),
        **{name: size[name].tolist() for name in _SIZES},
        **_mask_costs(task, step, count, rows),
        **_consistency(task, step, batch, labels, result, mask, rows),
    }
    return {name: columns.get(name, [None] * count) for name in schema().names}


_SIZES = ("l0", "l0_share", "l2", "linf", "frames_touched", "channels_touched")


def _mask_costs(task: PartTask, step: AttackStep, count: int, rows: slice) -> dict[str, Any]:
    if step.mask is None:
        return {"mask_forwards": [0] * count, "mask_backwards": [0] * count,
                "mask_seconds": [0.0] * count}  # fmt: skip
    costs = read_costs(task.paths.saliency(step.mask, task.part), rows)
    return {f"mask_{name}": value.tolist() for name, value in costs.items()}


def _consistency(
    task: PartTask,
    step: AttackStep,
    batch: FeatureBatch,
    labels: Int[Tensor, "B"],
    result: AttackResult,
    mask: Bool[Tensor, "B T D"] | None,
    rows: slice,
) -> dict[str, Any]:
    from safetensors.torch import load_file

    from sigma_ser.evaluate.consistency import consistency

    if step.reference is None or step.floor is None:
        return {}
    scores = consistency(
        make_explainer(step.reference),
        _victim(task.paths.victim(step.victim)),
        batch,
        result.x_adv,
        labels,
        Budget(**step.budget),
        mask=mask,
        frame_seconds=task.conditions.frame_seconds,
        clean=read_maps(task.paths.saliency(step.reference, task.part), rows),
        seeds=_explain_seeds(task, batch, step.reference),
    )
    scores |= {
        name: values[rows]
        for name, values in load_file(task.paths.floor(step.floor, task.part)).items()
    }
    kept = [
        name
        for metric in CONSISTENCY_METRICS
        for name in (metric, f"{metric}_own", f"{metric}_floor")
    ]
    return {
        "consistency_explainer": [step.reference.explainer] * len(batch),
        **{name: scores[name].tolist() for name in [*kept, "mask_mass"] if name in scores},
    }


def make_explainer(step: SaliencyStep) -> Explainer:
    """The explainer that a step names, with its settings, at the precision of kept maps."""
    from sigma_ser.explainers.explanation import make_explainer as make

    return AtKeptPrecision(make(step.name, **step.settings))


def make_attack(step: AttackStep) -> Attack:
    """The attack that a step names, with its settings."""
    from sigma_ser.attacks.factory import attack

    return attack(step.attack, **step.settings)


def _batches(task: PartTask) -> Iterator[tuple[FeatureBatch, Int[Tensor, "B"], slice]]:
    """The batches of a part, fixed by the plan, with their rows in the part."""
    store = _store(task.paths.features)
    size = task.conditions.batch_size
    for start in range(0, len(task.utterances), size):
        rows = slice(start, start + size)
        ids = [utterance.id for utterance in task.utterances[rows]]
        yield store.batch(ids), store.labels(ids), rows


def _mask(
    task: PartTask,
    step: SaliencyStep | None,
    scope: int | None,
    budget: Mapping[str, Any],
    batch: FeatureBatch,
    rows: slice,
) -> Bool[Tensor, "B T D"] | None:
    """The mask of a batch, read from the maps that an earlier step left."""
    from sigma_ser.masks.topk import ranking_scale, topk_mask

    if step is None or scope is None:
        return None
    saliency = read_maps(task.paths.saliency(step, task.part), rows)
    # A gradient of the source ranks by the source's own scale: what it would gain there.
    source = _victim(task.paths.victim(step.victim))
    scale = ranking_scale(make_explainer(step).kind, source, batch)
    return topk_mask(saliency, batch.lengths, Budget(**budget), scope, scale=scale)


def _explain_seeds(task: PartTask, batch: FeatureBatch, step: SaliencyStep) -> Int[Tensor, "B"]:
    """The same noise whenever this explainer looks at this utterance."""
    return utterance_seeds(batch.ids, task.conditions.seed, "explain", step.name)


@lru_cache(maxsize=4)
def _store(folder: Path) -> FeatureStore:
    from sigma_ser.encoders.store import FeatureStore

    return FeatureStore(folder)


@lru_cache(maxsize=8)
def _victim(folder: Path) -> TrainedVictim:
    from sigma_ser.victims.checkpoint import TrainedVictim

    return TrainedVictim.load(folder)
