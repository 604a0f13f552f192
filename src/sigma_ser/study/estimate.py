"""What a run would do, and what it would take: the plan, a quick calibration, no file written."""

from __future__ import annotations

import itertools
import shutil
import statistics
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

import torch

from sigma_ser.attacks.factory import make_attack
from sigma_ser.audio.recording import SAMPLE_RATE
from sigma_ser.core.contracts import Victim
from sigma_ser.core.features import FeatureBatch
from sigma_ser.core.utterance import Utterance
from sigma_ser.execution.executor import load_executor
from sigma_ser.execution.threads import one_thread
from sigma_ser.explainers.explanation import make_explainer
from sigma_ser.victims.checkpoint import make_head
from sigma_ser.victims.settings import TrainingSettings
from sigma_ser.victims.victim import wrap

from .artifacts import RunPaths, fingerprint_of, open_source
from .config import StudyConfig
from .inputs import Scene, open_scenes
from .loading import load_study
from .names import check_names
from .plan import Ground, budget_of, make_plan
from .scheduler import stages
from .steps import (
    AttackStep,
    FloorStep,
    Plan,
    SaliencyStep,
    UniversalStep,
    VictimStep,
)

# Utterances of the calibration: enough to see what a batch saves, few enough to be quick.
_BATCH = 4
# What a row takes in Parquet, measured over the demo study.
_ROW_BYTES = 260
# Of a perturbation that is kept, each changed element takes its place and its new value.
_MOVE_BYTES = 8


@dataclass(frozen=True)
class Stage:
    """One stage: steps in all and there already; passes and seconds of one worker for the rest."""

    name: str
    total: int
    cached: int
    passes: float
    seconds: float


@dataclass(frozen=True)
class Preview:
    """What a run would do; `seconds` with all its workers, `bytes` that it would add."""

    name: str
    folder: Path
    cells: int
    stages: tuple[Stage, ...]
    workers: int
    seconds: float
    bytes: int
    free_bytes: int

    def as_values(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return {**asdict(self), "folder": str(self.folder)}


def preview_study(
    study: Path, *, out: Path | None = None, overrides: Sequence[str] = ()
) -> Preview:
    """Plan a study without running it.

    Times come from one small batch of random features of the right shape for each head, explainer
    and attack, on heads that are not trained; so they are the order of magnitude, and an upper end
    where attacks stop early.

    Raises:
        SigmaError: as `run`, of which this makes every check.
    """
    config = load_study(study, overrides)
    check_names(config)
    folder = (out if out is not None else Path("runs") / config.name).absolute()
    scenes = open_scenes(config)
    plan = _plan(config, scenes)
    paths = RunPaths(folder)
    workers = load_executor(config.executor.name, **config.executor.settings).workers
    with one_thread():
        gauge = _Gauge(plan, scenes)
        told = [_features(scenes, paths, gauge)]
        for name, tasks in stages(plan, paths):
            missing = [task for task in tasks if not task.target.exists()]
            costs = [gauge.cost(task.step) for task in missing]
            counts = [max(1, len(task.utterances)) for task in missing]
            told.append(
                Stage(
                    name,
                    len(tasks),
                    len(tasks) - len(missing),
                    sum((cost[0] * n for cost, n in zip(costs, counts, strict=True)), 0.0),
                    sum((cost[1] * n for cost, n in zip(costs, counts, strict=True)), 0.0),
                )
            )
    return Preview(
        config.name,
        folder,
        len(plan.attacks),
        tuple(told),
        workers,
        told[0].seconds + sum(stage.seconds for stage in told[1:]) / workers,
        _bytes(plan, paths, scenes),
        shutil.disk_usage(next(p for p in (folder, *folder.parents) if p.exists())).free,
    )


def _plan(config: StudyConfig, scenes: Sequence[Scene]) -> Plan:
    loaded = {
        section.load: fingerprint_of(
            open_source(section.load, str(scene.encoder.card["layer"]), section.settings)
        )
        for section in config.victims
        if section.load is not None
        for scene in scenes
    }
    grounds: list[Ground] = [
        scene.ground(protocol, None) for scene in scenes for protocol in scene.folds
    ]
    return make_plan(config, grounds, loaded)


def _features(scenes: Sequence[Scene], paths: RunPaths, gauge: _Gauge) -> Stage:
    total = sum(len(scene.corpus) for scene in scenes)
    cached, seconds = 0, 0.0
    for scene in scenes:
        if (paths.features(scene.features) / "index.parquet").exists():
            cached += len(scene.corpus)
        else:
            seconds += gauge.encoding(scene)
    return Stage("features", total, cached, 0.0, seconds)


class _Gauge:
    """Passes and seconds of one utterance in each step, measured once for each kind of step."""

    def __init__(self, plan: Plan, scenes: Sequence[Scene]) -> None:
        self._scenes = {scene.features: scene for scene in scenes}
        self._plan = plan
        self._known: dict[Any, tuple[float, float]] = {}

    def cost(self, step: Any) -> tuple[float, float]:
        """Mean passes and seconds of an utterance; of a victim, those of its training."""
        match step:
            case VictimStep():
                key: Any = (step.head, repr(step.head_settings), repr(step.training),
                            step.setting.features)  # fmt: skip
                work: Callable[[], tuple[float, float]] = partial(self._training, step)
            case SaliencyStep() | UniversalStep():
                key = (
                    step.victim.head,
                    step.name,
                    repr(step.settings),
                    step.victim.setting.features,
                )
                work = partial(self._explaining, step)
            case FloorStep():
                return self.cost(step.reference)
            case AttackStep():
                key = (step.victim.head, step.attack, repr(step.settings), repr(step.budget),
                       step.mask is None, step.scope, step.victim.setting.features)  # fmt: skip
                work = partial(self._attacking, step)
            case _:
                return 2.0, 0.002
        if key not in self._known:
            self._known[key] = work()
        return self._known[key]

    def encoding(self, scene: Scene) -> float:
        """Seconds for all recordings of a corpus, from one of typical length."""
        seconds = [one.seconds for one in scene.corpus]
        typical = statistics.median(seconds)
        wave = torch.randn(round(typical * SAMPLE_RATE)).numpy() * 0.1
        scene.encoder.encode([wave])
        started = time.process_time()
        scene.encoder.encode([wave])
        return (time.process_time() - started) * sum(seconds) / typical

    def _training(self, step: VictimStep) -> tuple[float, float]:
        if step.source is not None:
            return 0.0, 1.0
        settings = TrainingSettings.of(dict(step.training))
        victim, batch, labels = self._stage_set(step)
        started = time.process_time()
        x = batch.x.clone().requires_grad_()
        torch.nn.functional.cross_entropy(victim(x, batch.lengths), labels).backward()  # type: ignore[no-untyped-call]
        each = (time.process_time() - started) / _BATCH
        passes = settings.epochs * len(step.fold.train)
        return 2.0 * passes, each * passes

    def _explaining(self, step: SaliencyStep | UniversalStep) -> tuple[float, float]:
        victim, batch, labels = self._stage_set(step.victim)
        explainer = make_explainer(step.name, **dict(step.settings))
        started = time.process_time()
        told = explainer(victim, batch, labels)
        seconds = (time.process_time() - started) / _BATCH
        return float((told.forwards + told.backwards).double().mean()), seconds

    def _attacking(self, step: AttackStep) -> tuple[float, float]:
        victim, batch, labels = self._stage_set(step.victim)
        budget, mask = budget_of(step.budget), None
        if step.mask is not None and step.scope is not None:
            from sigma_ser.masks.topk import topk_mask

            mask = topk_mask(torch.randn_like(batch.x), batch.lengths, budget, step.scope)
        made = make_attack(step.attack, **dict(step.settings))
        started = time.process_time()
        result = made(victim, batch, labels, budget, mask=mask)
        seconds = (time.process_time() - started) / _BATCH
        passes = float((result.forwards + result.backwards).double().mean())
        if step.reference is not None:
            # What is left of the explanation is measured on the class and on the prediction.
            more = self.cost(step.reference)
            return passes + 2 * more[0], seconds + 2 * more[1]
        return passes, seconds

    def _stage_set(self, step: VictimStep) -> tuple[Victim, FeatureBatch, torch.Tensor]:
        """An untrained victim, random features of the right shape, and what it says of them."""
        scene = self._scenes[step.setting.features]
        dim = _channels(scene, step.setting.layer)
        frames = scene.encoder.frames(
            round(statistics.median(one.seconds for one in scene.corpus) * SAMPLE_RATE)
        )
        rng = torch.Generator().manual_seed(0)
        batch = FeatureBatch(
            torch.randn(_BATCH, frames, dim, generator=rng), torch.full((_BATCH,), frames)
        )
        head = _head(
            step.head if step.source is None else "mlp", dim, len(scene.corpus.class_names),
            step.key, tuple(step.head_settings.items()),
        )  # fmt: skip
        with torch.inference_mode():
            labels = head(batch.x, batch.lengths).argmax(1)
        return head, batch, labels.clone()


@cache
def _head(name: str, dim: int, classes: int, key: str, settings: tuple[Any, ...]) -> Victim:
    del key
    with torch.random.fork_rng():
        torch.manual_seed(0)
        module = make_head(name, dim, classes, dict(settings))
    names = [str(number) for number in range(classes)]
    return wrap(module.eval(), names)


def _bytes(plan: Plan, paths: RunPaths, scenes: Sequence[Scene]) -> int:
    """What missing features, maps, perturbations and rows would take."""
    total = 0.0
    for scene in scenes:
        if not paths.features(scene.features).exists():
            total += _length(scene, scene.corpus) * scene.encoder.dim * 2
    by_key = {scene.features: scene for scene in scenes}

    def elements(victim: VictimStep, utterances: Iterable[Utterance]) -> int:
        scene = by_key[victim.setting.features]
        return _length(scene, utterances) * _channels(scene, victim.setting.layer)

    # Many steps work on the same utterances, which are counted once.
    @cache
    def attacked(victim: VictimStep) -> int:
        return elements(victim, itertools.chain.from_iterable(plan.samples[victim.sample]))

    for universal in plan.universals:
        if not paths.universal(universal).exists():
            total += elements(universal.victim, universal.utterances) * 2
    for saliency in plan.saliencies:
        if not paths.saliency(saliency, 0).exists():
            total += attacked(saliency.victim) * 2
    for cell in plan.attacks:
        if not paths.rows(cell, 0).exists():
            total += plan.utterances(cell) * _ROW_BYTES
            if cell.keep_perturbations:
                total += attacked(cell.victim) * cell.budget["sparsity"] * _MOVE_BYTES
    return round(total)


def _channels(scene: Scene, layer: str) -> int:
    """Channels that a victim hears: of all layers it hears one weighted sum."""
    layers = int(scene.encoder.card["layers"]) + 1 if layer == "all" else 1
    return scene.encoder.dim // layers


def _length(scene: Scene, utterances: Iterable[Utterance]) -> int:
    """Frames of some utterances together."""
    return sum(_frames(scene, one.seconds) for one in utterances)


def _frames(scene: Scene, seconds: float) -> int:
    return scene.encoder.frames(round(seconds * SAMPLE_RATE))
