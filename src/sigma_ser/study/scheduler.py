"""Compute what is missing of a plan, stage by stage; what fails repeatedly is recorded."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

from sigma_ser.core.files import write_json
from sigma_ser.core.progress import Progress
from sigma_ser.execution.executor import Executor, LostTaskError
from sigma_ser.execution.threads import one_thread
from sigma_ser.runs.files import read_objects
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
    MaskStep,
    Part,
    PartStep,
    Plan,
    ReplayStep,
    RowStep,
    SaliencyStep,
    Step,
    UniversalStep,
    VictimStep,
    WholeStep,
)
from .tasks import PartTask, Task, VictimTask
from .worker import Worker

# A task that failed so often is given up.
TRIES = 3
# Types of the values of a failure in JSON that are not text.
_KINDS: dict[str, type] = {"part": int, "utterances": list, "condition": dict}


@dataclass(frozen=True)
class Failure:
    """A task that could not be computed: where, which utterances, and why.

    `condition` is that of the cell (see `AttackStep.condition`); empty for other steps.
    """

    stage: str
    step: str
    key: str
    part: int
    utterances: tuple[str, ...]
    reason: str
    condition: dict[str, Any]


def stages(plan: Plan, layout: RunLayout) -> Iterator[tuple[str, list[Task]]]:
    """Name and tasks of each stage; each needs the files of those before it."""
    evaluation = plan.study.evaluation

    def part(step: PartStep | WholeStep, number: int, utterances: Part) -> PartTask:
        return PartTask(layout, step, number, utterances, evaluation.batch_size, evaluation.seed)

    # A victim on the waveform is the encoder with one of these.
    prepared = [step for step in plan.victims if step.on_features is None]
    yield "victims", [VictimTask(layout, step) for step in prepared]
    yield "gradients", [part(step, 0, step.utterances) for step in plan.gradients]
    if plan.universals:
        yield "universal", [part(step, 0, step.utterances) for step in plan.universals]
    if plan.alarms:
        yield "alarms", [part(step, 0, step.utterances) for step in plan.alarms]
    by_parts: tuple[tuple[str, Sequence[PartStep]], ...] = (
        ("explanations", plan.saliencies),
        ("floors", plan.floors),
        ("attacks", plan.attacks),
        ("corruptions", plan.corruptions),
        ("replays", plan.replays),
        ("certificates", plan.certificates),
        ("alarm scores", plan.alarm_scores),
    )
    optional = {"corruptions", "replays", "certificates", "alarm scores"}
    for name, steps in by_parts:
        if steps or name not in optional:
            # Passes through the encoder take longest; begun last, they would be waited for.
            ordered = sorted(steps, key=lambda step: step.victim.on_features is None)
            yield name, [part(step, n, ids) for step in ordered for n, ids in plan.parts(step)]


class Scheduler:
    """Hands the missing tasks of one run to an executor and keeps account of failures.

    Args:
        layout: of the run folder.
        executor: runs the tasks.
        progress: is informed of stages and steps.
        device: where victims are explained and attacked.
    """

    def __init__(
        self, layout: RunLayout, executor: Executor, progress: Progress, device: str = "cpu"
    ) -> None:
        self.failures: list[Failure] = []
        self._layout = layout
        self._worker = Worker(layout, device)
        self._executor = executor
        self._progress = progress

    def stage(self, name: str, tasks: Sequence[Task]) -> None:
        """Compute the tasks whose files are missing, and write `failures.json`.

        Raises:
            SigmaError: if a victim cannot be trained, or the study does not fit it.
            OSError: if a file cannot be written.
        """
        missing = [task for task in tasks if not task.target.exists()]
        self._progress.stage(name, len(tasks), cached=len(tasks) - len(missing))
        ready: list[Task] = []
        for task in missing:
            lacking = next((path for path in task.needs if not path.exists()), None)
            if lacking is None:
                ready.append(task)
            else:
                self._failed(name, task, f"needs {lacking}, which could not be computed")
        with one_thread():
            self._compute(name, ready)
        write_json(self._layout.failures, [asdict(one) for one in self.failures])

    def _compute(self, name: str, tasks: Sequence[Task]) -> None:
        tries = dict.fromkeys(range(len(tasks)), 0)
        while tries:
            places = list(tries)
            waiting = [tasks[at] for at in places]
            try:
                for place, fault in self._executor.completed(self._worker, waiting):
                    at = places[place]
                    if fault is None:
                        del tries[at]
                        self._progress.advance()
                        continue
                    tries[at] += 1
                    if fault.final or tries[at] >= TRIES:
                        del tries[at]
                        self._given_up(name, tasks[at], fault.reason)
            except LostTaskError as lost:
                at = places[lost.position]
                del tries[at]
                if tasks[at].target.exists():  # only its result was lost
                    self._progress.advance()
                else:
                    self._given_up(name, tasks[at], str(lost))

    def _given_up(self, stage: str, task: Task, reason: str) -> None:
        self._failed(stage, task, reason)
        self._progress.note(f"{stage}: given up: {reason}")

    def _failed(self, stage: str, task: Task, reason: str) -> None:
        step = task.step
        self.failures.append(
            Failure(
                stage,
                described(step),
                step.key,
                task.part,
                tuple(one.id for one in task.utterances),
                reason,
                step.condition if isinstance(step, RowStep) else {},
            )
        )


def read_failures(layout: RunLayout) -> list[dict[str, Any]]:
    """The tasks that a finished run could not compute; see `Failure` for the keys."""
    if not layout.failures.exists():
        return []
    kinds = {one.name: _KINDS.get(one.name, str) for one in fields(Failure)}
    return read_objects(layout.failures, kinds, "run the study again, which rewrites it")


def described(step: Step) -> str:
    """A step in the words of its study."""
    match step:
        case VictimStep():
            where = "" if step.on_features is None else "the waveform of "
            text = f"{step.name} on {where}{step.fold.name}"
        case SaliencyStep():
            text = f"{step.explainer} of {described(step.victim)}"
        case GradientStep():
            text = f"gradient check of {described(step.victim)}"
        case UniversalStep():
            text = f"universal {step.explainer} of {described(step.victim)}"
        case FloorStep():
            text = f"consistency floor of {described(step.victim)}"
        case AttackStep():
            text = f"{step.attack}{_inside(step.mask)} on {described(step.victim)}"
        case CorruptionStep():
            text = f"{step.corruption} on {described(step.victim)}"
        case ReplayStep():
            text = f"{described(step.source)}, replayed on {step.victim.name}"
        case CertificateStep():
            text = f"certificate{_inside(step.mask)} of {described(step.victim)}"
        case AlarmStep():
            text = f"alarms of {described(step.victim)}"
        case AlarmScoreStep():
            what = "the attack on the alarm" if step.source is None else described(step.source)
            text = f"alarm scores of {what}"
        case ExemplarStep():
            text = f"{step.utterance} under {described(step.source)}"
    return text


def _inside(mask: MaskStep | None) -> str:
    return "" if mask is None else f" in {mask.explainer} of {mask.source}"
