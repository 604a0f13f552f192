"""A study as jobs of a batch system: submit them, work in one of them, collect after them."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import sys
import time
import traceback
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from sigma_ser.core.errors import BusyError, ConfigError, RunError
from sigma_ser.core.locks import Claims
from sigma_ser.core.progress import Silent, current_progress
from sigma_ser.execution.jobs import Jobs, is_active
from sigma_ser.execution.memory import Slack, bound_primitive_cache, release_freed_tables
from sigma_ser.execution.processes import Processes
from sigma_ser.execution.shared import Shared
from sigma_ser.execution.slurm import COLLECT, WORK, WORK_AND_COLLECT, Slurm
from sigma_ser.runs.digests import Digests
from sigma_ser.runs.files import read_object
from sigma_ser.runs.layout import RunLayout
from sigma_ser.runs.lock import job_lock, run_lock
from sigma_ser.runs.status import RecordedProgress, is_over, read_jobs, write_jobs
from sigma_ser.study.config import StudyConfig
from sigma_ser.study.inputs import open_inputs, plan_study
from sigma_ser.study.loading import LoadedStudy, parse_study
from sigma_ser.study.name_checks import check_names
from sigma_ser.study.run import begin, execute, run_folder
from sigma_ser.study.scheduler import Scheduler, stages

# The name under which the features are claimed, which one job extracts.
_FEATURES = "features"
_SUBMIT = "import sys; from sigma_ser.cli.study_jobs import submit_jobs; submit_jobs(sys.argv[1])"


@dataclass(frozen=True)
class Submission:
    """A run that jobs compute."""

    folder: Path
    jobs: Jobs


class StudyJob:
    """What one job does: a function of strings, without a state, that submitit calls by name."""

    def __call__(self, run: str, role: str) -> None:
        """Work on a run, collect it, or both.

        Args:
            run: the run folder.
            role: `work`, `collect`, or `work-and-collect`: then the last worker collects.
        """
        layout = RunLayout(Path(run))
        if role == COLLECT:
            _collect(layout)
        elif role == WORK:
            _work(layout)
        elif role == WORK_AND_COLLECT:
            _work_and_collect(layout)
        else:
            raise ConfigError(f"a job works or collects, and has no role {role!r}")

    def checkpoint(self, run: str, role: str) -> Any:
        """The call with which a job that is interrupted goes on: what it has finished is kept."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self, run, role)


def submit(loaded: LoadedStudy, out: Path | None) -> Submission:
    """Prepare the folder of a run, submit the jobs that compute it, and return at once.

    Args:
        loaded: a study whose executor is `slurm`.
        out: the run folder; `runs/<name>` by default.

    Raises:
        ConfigError: if the study is wrong; nothing has been written then.
        RunError: if a run or jobs of one use the folder, or the jobs cannot be submitted.
    """
    layout = RunLayout(run_folder(loaded.config, out))
    executor = check_names(loaded)
    if not isinstance(executor, Slurm):
        raise ConfigError(f"the executor {loaded.config.executor.name!r} has no jobs to submit")
    open_inputs(loaded.config, layout)
    before = read_jobs(layout)
    if before is not None and is_active(before.states()) and not is_over(layout):
        raise RunError(
            f"the jobs {', '.join(before.ids)} of {layout.folder} are queued or running; "
            f"wait for them, stop them ({before.stop_command}), or delete {layout.submission} if "
            "they no longer exist"
        )
    with run_lock(layout.folder):
        begin(loaded, layout, current_progress())
        shutil.rmtree(_claims(layout), ignore_errors=True)
        _claims(layout).mkdir(parents=True)
        RecordedProgress(layout, Silent(), whole=False).begin()
    if executor.cluster == "local":
        _submit_detached(layout)
    else:
        submit_jobs(str(layout.folder))
    jobs = read_jobs(layout)
    assert jobs is not None
    return Submission(layout.folder, jobs)


def submit_jobs(run: str) -> None:
    """Submit the jobs of a prepared run, and record them in its folder."""
    layout = RunLayout(Path(run))
    executor = _executor_of(_study_of(layout))
    write_jobs(layout, executor.submit(layout.jobs, StudyJob(), layout.folder))


def _submit_detached(layout: RunLayout) -> None:
    """Submit from a session of its own: the shell may end, and its pipes are not kept open."""
    log = layout.jobs / "submission.log"
    with log.open("wb") as written:
        done = subprocess.run(
            [sys.executable, "-c", _SUBMIT, str(layout.folder)],
            stdin=subprocess.DEVNULL,
            stdout=written,
            stderr=written,
            start_new_session=True,
            check=False,
        )
    if done.returncode:
        raise RunError(f"the workers could not be started; see {log}")


def _work_and_collect(layout: RunLayout) -> None:
    """Work, then collect unless other workers are still at work: the last one collects."""
    try:
        _work(layout)
    except Exception:
        # The collection meets the same error, records it, and repairs what can be repaired.
        traceback.print_exc()
    if not is_over(layout):
        with contextlib.suppress(BusyError):  # of the other workers, the last one collects
            _collect(layout)


def _work(layout: RunLayout) -> None:
    """Compute the tasks of a run that no other worker has claimed, until none is missing."""
    bound_primitive_cache()
    release_freed_tables()
    with job_lock(layout.folder):
        if is_over(layout):
            return
        config, slack, digests = _study_of(layout).config, Slack(), Digests(layout)
        with RecordedProgress(layout, Silent(), whole=False) as progress:
            inputs = open_inputs(config, layout)
            with Claims(_claims(layout) / "inputs") as claims, claims.awaited(_FEATURES):
                plan = plan_study(config, inputs, progress, digests)
            inputs.clear()  # as in `run`
            slack.give_back()
            device = config.evaluation.device
            scheduler = Scheduler(layout, Shared(_claims(layout)), progress, device)
            for name, tasks in stages(plan, layout):
                scheduler.stage(name, tasks)


def _collect(layout: RunLayout) -> None:
    """Compute what is missing after the workers, and write rows and report."""
    study = _study_of(layout)
    # A task that killed its worker must not end the report as well.
    inner = Processes(workers=_executor_of(study).cpus)
    execute(study, layout, Silent(), time.monotonic(), inner)


def _study_of(layout: RunLayout) -> LoadedStudy:
    """The study of a run folder, with every default filled in and absolute paths."""
    values = read_object(layout.study, list(StudyConfig.model_fields), "run the study again")
    return replace(parse_study(values), text=layout.study_text.read_text("utf-8"))


def _executor_of(study: LoadedStudy) -> Slurm:
    return Slurm(**study.config.executor.settings)


def _claims(layout: RunLayout) -> Path:
    return layout.jobs / "claims"
