"""The work of a study before it runs: its plan and a quick calibration; nothing is written."""

from __future__ import annotations

import shutil
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Bool

from sigma_ser.attacks.factory import make_attack
from sigma_ser.attacks.gradient_checks import check_gradients
from sigma_ser.audio.recording import SAMPLE_RATE
from sigma_ser.certificates.choice import certify
from sigma_ser.core.contracts import Victim
from sigma_ser.core.features import FeatureBatch
from sigma_ser.encoders.index import INDEX
from sigma_ser.execution.threads import one_thread
from sigma_ser.explainers.explanation import make_explainer
from sigma_ser.masks.topk import topk_mask
from sigma_ser.runs.layout import RunLayout
from sigma_ser.victims.checkpoint import make_head
from sigma_ser.victims.settings import TrainingSettings
from sigma_ser.victims.victim import wrap
from sigma_ser.victims.waveform import on_waveform

from .inputs import StudyInput, open_inputs, plan_study
from .loading import load_study
from .missing_size import channels_of, missing_bytes
from .name_checks import check_names
from .scheduler import stages
from .steps import (
    AlarmScoreStep,
    AlarmStep,
    AttackStep,
    CertificateStep,
    CorruptionStep,
    FloorStep,
    GradientStep,
    SaliencyStep,
    Step,
    UniversalStep,
    VictimStep,
)

# Start of the program and of the workers of each stage, pictures and report: those of the demo.
_OVERHEAD = 10.0
# Utterances of the calibration: enough to see what a batch saves, few enough to be quick.
_BATCH = 4
# Maps of an attack that knows an alarm: 40 steps with second derivatives, for three alarms.
_EVASION_MAPS = 240


@dataclass(frozen=True)
class StageEstimate:
    """One stage: number of steps, how many exist, and the cost of the others for one worker."""

    name: str
    total: int
    cached: int
    passes: float
    seconds: float


@dataclass(frozen=True)
class Estimate:
    """What a run would do.

    `seconds` is the time with all workers, from start to page, `bytes` what the run would add to
    its folder.
    """

    name: str
    folder: Path
    cells: int
    stages: tuple[StageEstimate, ...]
    workers: int
    seconds: float
    bytes: int
    free_bytes: int

    def as_values(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return {**asdict(self), "folder": str(self.folder)}


def estimate_study(
    study: Path, *, out: Path | None = None, overrides: Sequence[str] = ()
) -> Estimate:
    """Plan a study without running it.

    Times come from one small batch of random features of the right shape for each head, explainer
    and attack, on untrained heads; so they give the order of magnitude, and an upper bound where
    attacks stop early.

    Raises:
        SigmaError: as `run`, with the same checks.
    """
    loaded = load_study(study, overrides)
    config, workers = loaded.config, check_names(loaded).workers
    folder = (out if out is not None else Path("runs") / config.name).absolute()
    layout = RunLayout(folder)
    inputs = open_inputs(config, layout)
    plan = plan_study(config, inputs, None)
    with one_thread():
        gauge = _Gauge(inputs)
        found = [_features(inputs, gauge)]
        for name, tasks in stages(plan, layout):
            missing = [task for task in tasks if not task.target.exists()]
            costs = [gauge.cost(task.step) for task in missing]
            counts = [max(1, len(task.utterances)) for task in missing]
            found.append(
                StageEstimate(
                    name,
                    len(tasks),
                    len(tasks) - len(missing),
                    sum((cost[0] * n for cost, n in zip(costs, counts, strict=True)), 0.0),
                    sum((cost[1] * n for cost, n in zip(costs, counts, strict=True)), 0.0),
                )
            )
    overhead = _OVERHEAD if any(stage.cached < stage.total for stage in found) else 0.0
    return Estimate(
        config.name,
        folder,
        len(plan.attacks),
        tuple(found),
        workers,
        overhead + found[0].seconds + sum(stage.seconds for stage in found[1:]) / workers,
        missing_bytes(plan, layout, inputs),
        shutil.disk_usage(next(p for p in (folder, *folder.parents) if p.exists())).free,
    )


def _features(inputs: Sequence[StudyInput], gauge: _Gauge) -> StageEstimate:
    total = sum(len(one.corpus) for one in inputs)
    cached, seconds = 0, 0.0
    for one in inputs:
        if (one.folder / INDEX).exists():
            cached += len(one.corpus)
        else:
            seconds += gauge.encoding(one)
    return StageEstimate("features", total, cached, 0.0, seconds)


class _Gauge:
    """Passes and seconds of one utterance in each step, measured once for each kind of step."""

    def __init__(self, inputs: Sequence[StudyInput]) -> None:
        self._inputs = {one.features: one for one in inputs}
        self._known: dict[Any, tuple[float, float]] = {}

    def cost(self, step: Step) -> tuple[float, float]:
        """Mean passes and seconds of an utterance; of a victim, those of its training."""
        match step:
            case VictimStep():
                key: Any = (step.head, repr(step.head_settings), repr(step.training),
                            step.setting.features)  # fmt: skip
                work: Callable[[], tuple[float, float]] = partial(self._training, step)
            case SaliencyStep() | UniversalStep() | AlarmStep():
                key = (step.name, repr(step.settings), *_model(step.victim))
                work = partial(self._explaining, step)
            case FloorStep():
                return self.cost(step.reference)
            case AlarmScoreStep():
                passes, seconds = self.cost(step.alarm)
                # Maps before and after; an evasion computes one in each step, for each alarm.
                maps = 2 + (_EVASION_MAPS if step.source is None else 0)
                return maps * passes, maps * seconds
            case AttackStep():
                key = (step.attack, repr(step.settings), step.budget, step.mask is None,
                       step.scope, *_model(step.victim))  # fmt: skip
                work = partial(self._attacking, step)
            case GradientStep():
                key = ("gradients", step.budget, *_model(step.victim))
                work = partial(self._checking, step)
            case CertificateStep():
                key = ("certificate", step.method, repr(step.settings), step.budget, step.scope,
                       step.mask is None, *_model(step.victim))  # fmt: skip
                work = partial(self._certifying, step)
            case CorruptionStep():
                key = ("corruption", *_model(step.victim))
                work = partial(self._showing, step.victim)
            case _:
                return 2.0, 0.002
        if key not in self._known:
            self._known[key] = work()
        return self._known[key]

    def encoding(self, one: StudyInput) -> float:
        """Seconds for all recordings of a corpus, from one of typical length."""
        assert one.encoder is not None
        seconds = [utterance.seconds for utterance in one.corpus]
        typical = statistics.median(seconds)
        wave = torch.randn(round(typical * SAMPLE_RATE)).numpy() * 0.1
        one.encoder.encode([wave])
        started = time.process_time()
        one.encoder.encode([wave])
        return (time.process_time() - started) * sum(seconds) / typical

    def _training(self, step: VictimStep) -> tuple[float, float]:
        if step.source is not None:
            return 0.0, 1.0
        settings = TrainingSettings.of(dict(step.training))
        victim, batch, labels = self._random_batch(step)
        started = time.process_time()
        x = batch.x.clone().requires_grad_()
        torch.nn.functional.cross_entropy(victim(x, batch.lengths), labels).backward()  # type: ignore[no-untyped-call]
        each = (time.process_time() - started) / _BATCH
        passes = settings.epochs * len(step.fold.train)
        return 2.0 * passes, each * passes

    def _explaining(self, step: SaliencyStep | UniversalStep | AlarmStep) -> tuple[float, float]:
        victim, batch, labels = self._random_batch(step.victim)
        explainer = make_explainer(step.name, **dict(step.settings))
        started = time.process_time()
        explanation = explainer(victim, batch, labels)
        seconds = (time.process_time() - started) / _BATCH
        passes = explanation.forwards + explanation.backwards
        return float(passes.double().mean()), seconds

    def _attacking(self, step: AttackStep) -> tuple[float, float]:
        victim, batch, labels = self._random_batch(step.victim)
        budget, mask = step.budget.of(batch), _some_mask(step, batch)
        attack = make_attack(step.attack, **step.settings)
        started = time.process_time()
        result = attack(victim, batch, labels, budget, mask=mask)
        seconds = (time.process_time() - started) / _BATCH
        passes = float((result.forwards + result.backwards).double().mean())
        if step.reference is not None:
            # Consistency explains the true class and the prediction.
            more = self.cost(step.reference)
            return passes + 2 * more[0], seconds + 2 * more[1]
        return passes, seconds

    def _certifying(self, step: CertificateStep) -> tuple[float, float]:
        victim, batch, labels = self._random_batch(step.victim)
        # A bound may take seconds for each utterance, and few are computed together.
        one, mask = batch.select(torch.tensor([0])), _some_mask(step, batch)
        started = time.process_time()
        certify(victim, one, labels[:1], step.budget.of(one), None if mask is None else mask[:1],
                step.method, **step.settings)  # fmt: skip
        return 1.0, time.process_time() - started

    def _showing(self, step: VictimStep) -> tuple[float, float]:
        victim, batch, _ = self._random_batch(step)
        started = time.process_time()
        with torch.inference_mode():
            victim(batch.x, batch.lengths)
        # Before and after, in memory and after the round trip.
        return 4.0, 4 * (time.process_time() - started) / _BATCH

    def _checking(self, step: GradientStep) -> tuple[float, float]:
        victim, batch, labels = self._random_batch(step.victim)
        started = time.process_time()
        check = check_gradients(victim, batch, labels, step.budget.of(batch))
        return check.passes, (time.process_time() - started) / _BATCH

    def _random_batch(self, step: VictimStep) -> tuple[Victim, FeatureBatch, torch.Tensor]:
        """An untrained victim, random features of the right shape, and its predictions."""
        one = self._inputs[step.setting.features]
        if step.on_features is not None:
            assert one.whole is not None
            below, _, _ = self._random_batch(step.on_features)
            samples = round(statistics.mean(each.seconds for each in one.corpus) * SAMPLE_RATE)
            waves = torch.randn(_BATCH, samples, 1, generator=torch.Generator().manual_seed(0))
            lengths = torch.full((_BATCH,), samples)
            return _recognised(on_waveform(one.whole, below), FeatureBatch(0.1 * waves, lengths))
        dim = channels_of(one, step.setting.layer)
        frames = round(one.frames(one.corpus) / len(one.corpus))
        rng = torch.Generator().manual_seed(0)
        batch = FeatureBatch(
            torch.randn(_BATCH, frames, dim, generator=rng), torch.full((_BATCH,), frames)
        )
        head = _head(
            step.head if step.source is None else "mlp", dim, len(one.corpus.class_names),
            step.key, tuple(step.head_settings.items()),
        )  # fmt: skip
        return _recognised(head, batch)


def _some_mask(
    step: AttackStep | CertificateStep, batch: FeatureBatch
) -> Bool[torch.Tensor, "B T D"] | None:
    """A mask of the size of that of a step, from random scores."""
    if step.mask is None or step.scope is None:
        return None
    scores = torch.randn_like(batch.x)
    return topk_mask(scores, batch.lengths, step.budget.of(batch), step.scope)


def _recognised(victim: Victim, batch: FeatureBatch) -> tuple[Victim, FeatureBatch, torch.Tensor]:
    """A victim and a batch, with its predictions."""
    with torch.inference_mode():
        labels = victim(batch.x, batch.lengths).argmax(1)
    return victim, batch, labels.clone()


@cache
def _head(name: str, dim: int, classes: int, key: str, settings: tuple[Any, ...]) -> Victim:
    del key
    with torch.random.fork_rng():
        torch.manual_seed(0)
        module = make_head(name, dim, classes, dict(settings))
    names = [str(number) for number in range(classes)]
    return wrap(module.eval(), names)


def _model(step: VictimStep) -> tuple[str, str, str]:
    """What the time of a pass depends on."""
    return step.head, step.setting.features, step.setting.surface
