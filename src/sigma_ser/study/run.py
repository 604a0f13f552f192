"""Run a study: inputs, plan, tasks, rows, report; only what is missing is computed."""

from __future__ import annotations

import os
import socket
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sigma_ser.core.errors import ConfigError, DamagedError, RunError
from sigma_ser.core.files import remove_unfinished, write_json, write_text
from sigma_ser.core.html_repr import html_columns
from sigma_ser.core.progress import Progress, current_progress, shown_on
from sigma_ser.core.rows import read_rows
from sigma_ser.encoders.index import INDEX
from sigma_ser.execution.executor import Executor
from sigma_ser.execution.memory import Slack, bound_primitive_cache, release_freed_tables
from sigma_ser.execution.processes import Processes
from sigma_ser.execution.slurm import WHOLE_STUDIES, Slurm
from sigma_ser.runs.digests import Digests
from sigma_ser.runs.files import read_objects
from sigma_ser.runs.garbage import write_plan
from sigma_ser.runs.layout import RunLayout
from sigma_ser.runs.lock import run_lock
from sigma_ser.runs.provenance import environment
from sigma_ser.runs.repairs import read_repairs, repair
from sigma_ser.runs.status import RecordedProgress

from .config import StudyConfig
from .exemplars import exemplar_tasks
from .inputs import StudyInput, open_inputs, plan_study
from .loading import LoadedStudy, load_study, parse_study
from .name_checks import check_names
from .report import collect, provenance, report_run, victim_scores
from .scheduler import Scheduler, read_failures, stages
from .tracking import track
from .worker import Worker

if TYPE_CHECKING:
    import polars as pl

# Cells in the table of a notebook.
_SHOWN = 10
# Number of times that one file is made again in one call.
_REPAIRS = 2


@dataclass(frozen=True)
class Study:
    """A finished run.

    `folder` holds everything; `seconds` is the wall time of this call, which is short where most of
    the results existed already.
    """

    config: StudyConfig
    folder: Path
    seconds: float

    @cached_property
    def rows(self) -> pl.DataFrame:
        """One row for each utterance and cell, with the columns of `core.rows`."""
        return read_rows(self.layout.rows)

    @cached_property
    def replays(self) -> pl.DataFrame | None:
        """Predictions of other victims on the perturbations; `None` unless `evaluation.replay`."""
        import polars as pl

        path = self.layout.replays
        return pl.read_parquet(path) if path.exists() else None

    @cached_property
    def certificates(self) -> pl.DataFrame | None:
        """One row for each utterance, victim, method and budget; `None` without certificates."""
        import polars as pl

        path = self.layout.certificates
        return pl.read_parquet(path) if path.exists() else None

    @cached_property
    def alarms(self) -> pl.DataFrame | None:
        """One row for each alarm, cell and utterance; `None` without `[alarm]`."""
        import polars as pl

        path = self.layout.alarms
        return pl.read_parquet(path) if path.exists() else None

    @cached_property
    def summary(self) -> pl.DataFrame:
        """One line for each cell; see `evaluate.summary.summarise`."""
        from sigma_ser.evaluate.summary import summarise

        return summarise(self.rows)

    def _repr_html_(self) -> str:
        shown = self.summary.sort("asr", descending=True, nulls_last=True).head(_SHOWN)
        cells = shown.select("surface", "victim", "attack", "explainer", "scope", "asr").rows()
        rows = [
            [*("" if one is None else one for one in cell), "" if asr is None else f"{asr:.0%}"]
            for *cell, asr in cells
        ]
        title = f"Study {self.config.name}: the {len(rows)} strongest of {len(self.summary)} cells"
        columns = ["surface", "victim", "attack", "mask", "times the budget", "success rate"]
        return html_columns(title, columns, rows)

    @property
    def layout(self) -> RunLayout:
        """Paths of the run folder."""
        return RunLayout(self.folder)

    @property
    def victims(self) -> list[dict[str, Any]]:
        """Name, fold and test scores of each victim."""
        return read_objects(self.layout.victims, ["name", "fold"], "run the study again")

    @property
    def failures(self) -> list[dict[str, Any]]:
        """Tasks that could not be computed: where, which utterances, and why."""
        return read_failures(self.layout)

    @property
    def repairs(self) -> list[dict[str, Any]]:
        """Files of the folder that were found damaged and made again, in this or earlier calls."""
        return read_repairs(self.layout)

    @property
    def report(self) -> Path:
        """The page."""
        return self.layout.page


def default_folder(name: str) -> Path:
    """The run folder of a study of this name, where no other is given."""
    return Path("runs") / name


def run(
    study: str | os.PathLike[str] | Mapping[str, Any],
    *,
    out: str | os.PathLike[str] | None = None,
    overrides: Sequence[str] = (),
    progress: Progress | None = None,
) -> Study:
    """Run a study, or what is missing of it.

    Args:
        study: a TOML file, or the same values as a mapping.
        out: the run folder; `runs/<name>` by default.
        overrides: `a.b=value` each.
        progress: is informed of stages and steps; `None` shows them where the call is inside
            `ss.show_progress`.

    Raises:
        ConfigError: if the study is wrong; nothing has been written then.
        RunError: if the folder cannot be written, or another run is working in it.
    """
    started = time.monotonic()
    loaded = (
        parse_study(study, overrides)
        if isinstance(study, Mapping)
        else load_study(Path(study), overrides)
    )
    folder = run_folder(loaded.config, Path(out) if out is not None else None)
    execute(loaded, RunLayout(folder), progress or current_progress(), started)
    return Study(loaded.config, folder, time.monotonic() - started)


def run_folder(config: StudyConfig, out: Path | None) -> Path:
    """The folder of a run, as an absolute path."""
    return (default_folder(config.name) if out is None else out).absolute()


def execute(
    loaded: LoadedStudy,
    layout: RunLayout,
    progress: Progress,
    started: float,
    executor: Executor | None = None,
) -> None:
    """Run a study in a folder; see `run`.

    Args:
        loaded: the study.
        layout: of the run folder.
        progress: is informed of stages and steps.
        started: when the call began, by `time.monotonic`.
        executor: takes the place of the one that the study names.
    """
    try:
        with shown_on(None):  # the stages of the study, and not those of each attack
            _execute(loaded, layout, progress, started, executor)
    except OSError as fault:
        raise RunError(_cannot_go_on(fault, layout.folder)) from fault


def _execute(
    loaded: LoadedStudy,
    layout: RunLayout,
    progress: Progress,
    started: float,
    executor: Executor | None,
) -> None:
    bound_primitive_cache()
    release_freed_tables()
    config = loaded.config
    # Whatever can be wrong with the study is found before anything is written.
    named = check_names(loaded)
    if executor is None and isinstance(named, Slurm):
        raise ConfigError(WHOLE_STUDIES)
    inputs = open_inputs(config, layout)
    with run_lock(layout.folder), RecordedProgress(layout, progress) as recorded:
        digests = begin(loaded, layout, recorded)
        call = _Call(config, layout, digests, executor or named, recorded)
        call.whole(inputs, started)
        digests.join()
        for note in track(config, layout):
            recorded.note(note)


def begin(loaded: LoadedStudy, layout: RunLayout, progress: Progress) -> Digests:
    """Write what a run consists of; the folder must be locked."""
    remove_unfinished(layout.folder)
    digests = Digests(layout)
    if unknown := digests.complete():
        progress.note(
            f"{unknown} files of {layout.folder} had no digest and were taken as they are"
        )
    write_text(layout.study_text, loaded.text, digests.seal)
    write_json(layout.study, loaded.config.model_dump(mode="json"), digests.seal)
    write_json(layout.environment, environment(), digests.seal)
    return digests


@dataclass(frozen=True)
class _Call:
    """One call of a run, which holds the lock of its folder."""

    config: StudyConfig
    layout: RunLayout
    digests: Digests
    executor: Executor
    progress: Progress

    def whole(self, inputs: list[StudyInput], started: float) -> None:
        """Compute what is missing; damaged files are removed, and are missing then."""
        found: Counter[Path] = Counter()
        while True:
            try:
                self._attempt(inputs, started)
                return
            except DamagedError as fault:
                found[fault.path] += 1
                if found[fault.path] > _REPAIRS:
                    raise
                self._again(repair(self.layout, self.digests, fault))
            remove_unfinished(self.layout.folder)
            inputs = open_inputs(self.config, self.layout)

    def _attempt(self, inputs: list[StudyInput], started: float) -> None:
        layout, digests, slack = self.layout, self.digests, Slack()
        self._prepare(inputs)
        plan = plan_study(self.config, inputs, self.progress, digests)
        write_plan(layout, digests, self.config.name, plan.needs())
        write_json(layout.provenance, provenance(inputs), digests.seal)
        inputs.clear()  # the recordings of a large corpus would stay in memory during the attacks
        slack.give_back()
        scheduler = Scheduler(layout, self.executor, self.progress, self.config.evaluation.device)
        for name, tasks in stages(plan, layout):
            scheduler.stage(name, tasks)
        slack.give_back()
        write_json(layout.victims, victim_scores(plan, layout, digests), digests.seal)
        collected = collect(plan, layout, digests)
        shown = exemplar_tasks(plan, layout, digests, collected.flipped)
        scheduler.stage("exemplars", shown)
        self.progress.stage("report", 1)
        self._again(report_run(layout, digests, collected, time.monotonic() - started))
        self.progress.advance()

    def _prepare(self, inputs: Sequence[StudyInput]) -> None:
        """Start the workers' imports, which take seconds, where features are extracted first."""
        missing = [one.card for one in inputs if not (one.folder / INDEX).exists()]
        if missing and isinstance(self.executor, Processes):
            types = {str(card["model_type"]).replace("-", "_") for card in missing}
            models = [f"transformers.models.{name}.modeling_{name}" for name in sorted(types)]
            self.executor.prepare(Worker(self.layout), models)

    def _again(self, damaged: Sequence[str]) -> None:
        for name in damaged:
            self.progress.note(
                f"{name} is damaged (unreadable, or changed since it was written) and is made again"
            )


def _cannot_go_on(fault: OSError, folder: Path) -> str:
    """One sentence for an error of the system, which need not concern the folder."""
    again = "run the same command again, completed results are kept"
    network = isinstance(fault, ConnectionError | TimeoutError | socket.gaierror)
    if network or fault.errno is None:
        return f"the run in {folder} stopped ({type(fault).__name__}: {fault}); {again}"
    where = f" ({fault.filename})" if fault.filename is not None else ""
    return f"cannot go on in {folder}: {fault.strerror}{where}; fix that and {again}"
