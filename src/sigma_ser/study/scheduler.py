"""Do what is missing of a plan, stage by stage; what fails again and again is told and left out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from sigma_ser.core.errors import ConfigError, RunError, SigmaError, StoreError
from sigma_ser.core.files import write_json
from sigma_ser.core.progress import Progress
from sigma_ser.execution.executor import Executor, LostTaskError
from sigma_ser.execution.threads import one_thread
from sigma_ser.runs.files import read_objects

from .artifacts import RunPaths
from .steps import AttackStep, Plan, ReplayStep, UniversalStep, VictimStep
from .tasks import PartTask, VictimTask
from .worker import work

# A shard that failed so often is given up.
TRIES = 3
Task = VictimTask | PartTask


@dataclass(frozen=True)
class Failure:
    """A shard that could not be computed: where, which utterances, and why."""

    stage: str
    step: str
    key: str
    part: int
    utterances: tuple[str, ...]
    reason: str


@dataclass(frozen=True)
class Fault:
    """What went wrong in a worker; `final` where another try would end the same."""

    reason: str
    final: bool


def stages(plan: Plan, paths: RunPaths) -> Iterator[tuple[str, list[Task]]]:
    """Name and tasks of each stage; each needs the files of those before it."""
    evaluation = plan.study.evaluation

    def part(step: Any, number: int, utterances: Any) -> PartTask:
        return PartTask(paths, step, number, utterances, evaluation.batch_size, evaluation.seed)

    yield "victims", [VictimTask(paths, step) for step in plan.victims]
    if plan.universals:
        yield "universal", [part(step, 0, step.utterances) for step in plan.universals]
    for name, steps in (
        ("explanations", plan.saliencies),
        ("floors", plan.floors),
        ("attacks", plan.attacks),
        ("replays", plan.replays),
    ):
        if steps or name != "replays":
            yield name, [part(step, n, ids) for step in steps for n, ids in plan.parts(step)]


def compute(plan: Plan, paths: RunPaths, executor: Executor, progress: Progress) -> list[Failure]:
    """Let the executor do what is not there yet.

    Returns:
        What could not be computed; it is in `failures.json`, too.

    Raises:
        SigmaError: if a victim cannot be trained, or the study does not fit it.
        OSError: if a file cannot be written.
    """
    failures: list[Failure] = []
    with one_thread():
        for name, tasks in stages(plan, paths):
            failures += _stage(name, tasks, executor, progress)
    write_json(paths.folder / "failures.json", [asdict(one) for one in failures])
    return failures


def _stage(
    name: str, tasks: Sequence[Task], executor: Executor, progress: Progress
) -> list[Failure]:
    missing = [task for task in tasks if not task.target.exists()]
    progress.stage(name, len(tasks), cached=len(tasks) - len(missing))
    failures: list[Failure] = []
    ready: list[Task] = []
    for task in missing:
        lacking = next((path for path in task.needs if not path.exists()), None)
        if lacking is None:
            ready.append(task)
        else:
            failures.append(_failure(name, task, f"needs {lacking}, which could not be made"))
    tries = dict.fromkeys(range(len(ready)), 0)
    while tries:
        places = list(tries)
        try:
            for place, fault in executor.completed(attempt, [ready[at] for at in places]):
                at = places[place]
                if fault is None:
                    del tries[at]
                    progress.advance()
                    continue
                tries[at] += 1
                if fault.final or tries[at] >= TRIES:
                    del tries[at]
                    failures.append(_failure(name, ready[at], fault.reason))
                    progress.note(f"{name}: given up: {fault.reason}")
        except LostTaskError as lost:
            at = places[lost.position]
            del tries[at]
            failures.append(_failure(name, ready[at], str(lost)))
            progress.note(f"{name}: given up: {lost}")
    return failures


def attempt(task: Task) -> Fault | None:
    """Do a task; what may be a fault of this task alone comes back instead of being raised."""
    try:
        work(task)
    except (OSError, ConfigError, RunError, StoreError):
        # The disk, the study or the run's folder: the next task would fare no better.
        raise
    except SigmaError as fault:
        if isinstance(task, VictimTask):
            raise
        return Fault(str(fault), final=True)
    except Exception as fault:
        if "os error" in str(fault):  # what safetensors makes of a full disk
            raise OSError(str(fault)) from fault
        return Fault(f"{type(fault).__name__}: {fault}", final=False)
    return None


def _failure(stage: str, task: Task, reason: str) -> Failure:
    return Failure(
        stage,
        described(task.step),
        task.step.key,
        task.part if isinstance(task, PartTask) else 0,
        tuple(one.id for one in task.utterances),
        reason,
    )


def described(step: Any) -> str:
    """A step in the words of its study."""
    match step:
        case VictimStep():
            return f"{step.name} on {step.fold.name}"
        case AttackStep():
            mask = "" if step.mask is None else f" in {step.mask.explainer} of {step.mask.source}"
            return f"{step.attack}{mask} on {described(step.victim)}"
        case ReplayStep():
            return f"{described(step.source)}, replayed on {step.victim.name}"
        case UniversalStep():
            return f"universal {step.explainer} of {described(step.victim)}"
        case _:
            return f"{type(step).__name__} of {described(step.victim)}"


def read_failures(folder: Path) -> list[dict[str, Any]]:
    """What a finished run could not compute."""
    path = folder / "failures.json"
    if not path.exists():
        return []
    names = [one.name for one in fields(Failure)]
    return read_objects(path, names, "run the study again, which writes it anew")
