"""What can be done by itself: a victim, or one part of a step; its file, and what it needs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from .artifacts import RunPaths
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
