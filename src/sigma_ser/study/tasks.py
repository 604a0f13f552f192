"""Units of work: a victim, one part of a step, or an exemplar; its file and what it needs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from sigma_ser.runs.layout import RunLayout

from .steps import (
    AlarmScoreStep,
    AlarmStep,
    AttackStep,
    CertificateStep,
    CorruptionStep,
    ExemplarStep,
    FloorStep,
    GradientStep,
    MaskedStep,
    Part,
    PartStep,
    ReplayStep,
    SaliencyStep,
    UniversalStep,
    VictimStep,
    WholeStep,
)


@dataclass(frozen=True)
class VictimTask:
    """One victim to train, or to score where it is loaded."""

    layout: RunLayout
    step: VictimStep
    part = 0

    @property
    def target(self) -> Path:
        """The file that is written last."""
        return self.layout.victim_timing(self.step.folder)

    @property
    def needs(self) -> tuple[Path, ...]:
        """Files of earlier stages without which the task cannot be done."""
        return ()

    @property
    def utterances(self) -> Part:
        """Those that would be missing in the rows: none."""
        return ()


@dataclass(frozen=True)
class PartTask:
    """One part of one step; `utterances` go in batches of `batch_size`."""

    layout: RunLayout
    step: PartStep | WholeStep | ExemplarStep
    part: int
    utterances: Part
    batch_size: int
    seed: int

    @property
    def target(self) -> Path:
        """The file that this task writes."""
        layout, step = self.layout, self.step
        match step:
            case SaliencyStep():
                path = layout.saliency(step.key, self.part)
            case FloorStep():
                path = layout.floor(step.key, self.part)
            case AttackStep() | CorruptionStep():
                path = layout.attack(step.key, self.part)
            case ReplayStep():
                path = layout.replay(step.key, self.part)
            case CertificateStep():
                path = layout.certificate(step.key, self.part)
            case AlarmStep():
                path = layout.alarm(step.key)
            case AlarmScoreStep():
                path = layout.alarm_scores(step.key, self.part)
            case GradientStep():
                path = layout.gradient_check(step.key)
            case UniversalStep():
                path = layout.universal(step.key)
            case ExemplarStep():
                path = layout.exemplar(step.key)
        return path

    @property
    def needs(self) -> tuple[Path, ...]:
        """Files of earlier stages without which the task cannot be done."""
        layout, step = self.layout, self.step
        needed = [VictimTask(layout, step.victim).target]
        if isinstance(step, MaskedStep) and step.mask is not None:
            needed += [
                layout.universal(one.key) if isinstance(one, UniversalStep)
                else layout.saliency(one.key, self.part)
                for one in step.mask.origins
            ]  # fmt: skip
        if isinstance(step, AttackStep) and step.floor is not None:
            needed.append(layout.floor(step.floor.key, self.part))
        if isinstance(step, AlarmScoreStep):
            needed.append(layout.alarm(step.alarm.key))
        source = (
            step.source if isinstance(step, ReplayStep | ExemplarStep | AlarmScoreStep) else None
        )
        if source is not None:
            needed.append(layout.attack(source.key, self.part))
        return tuple(needed)


Task = VictimTask | PartTask
