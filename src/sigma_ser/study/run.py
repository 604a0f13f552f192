"""Run a study: inputs, plan, tasks, rows, report; only what is missing is computed."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sigma_ser.core.errors import RunError
from sigma_ser.core.files import whole_file, write_json
from sigma_ser.core.progress import Progress, Silent
from sigma_ser.core.rows import read_rows
from sigma_ser.execution.memory import Slack, bound_primitive_cache, release_freed_tables
from sigma_ser.runs.garbage import remove_partial_files, write_plan
from sigma_ser.runs.layout import RunLayout
from sigma_ser.runs.lock import run_lock
from sigma_ser.runs.provenance import environment
from sigma_ser.runs.status import RecordedProgress

from .config import StudyConfig
from .exemplars import exemplar_tasks
from .inputs import open_inputs, plan_study
from .loading import LoadedStudy, check_names, load_study, parse_study
from .report import collect, provenance, report_run, victim_scores
from .scheduler import Scheduler, read_failures, stages
from .tracking import track

if TYPE_CHECKING:
    import polars as pl


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
    def summary(self) -> pl.DataFrame:
        """One line for each cell; see `evaluate.summary.summarise`."""
        from sigma_ser.evaluate.summary import summarise

        return summarise(self.rows)

    @property
    def layout(self) -> RunLayout:
        """Paths of the run folder."""
        return RunLayout(self.folder)

    @property
    def victims(self) -> list[dict[str, Any]]:
        """Name, fold and test scores of each victim."""
        values: list[dict[str, Any]] = json.loads(self.layout.victims.read_text("utf-8"))
        return values

    @property
    def failures(self) -> list[dict[str, Any]]:
        """Tasks that could not be computed: where, which utterances, and why."""
        return read_failures(self.layout)

    @property
    def report(self) -> Path:
        """The page."""
        return self.layout.page


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
        progress: is informed of stages and steps.

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
    folder = (Path(out) if out is not None else Path("runs") / loaded.config.name).absolute()
    try:
        _execute(loaded, RunLayout(folder), progress or Silent(), started)
    except OSError as fault:
        raise RunError(
            f"cannot go on in {folder}: {fault.strerror or fault}; fix that and run the same "
            "command again, completed results are kept"
        ) from fault
    return Study(loaded.config, folder, time.monotonic() - started)


def _execute(loaded: LoadedStudy, layout: RunLayout, progress: Progress, started: float) -> None:
    bound_primitive_cache()
    release_freed_tables()
    slack = Slack()
    config = loaded.config
    # Whatever can be wrong with the study is found before anything is written.
    executor = check_names(loaded)
    inputs = open_inputs(config, layout)
    with run_lock(layout.folder), RecordedProgress(layout, progress) as recorded:
        remove_partial_files(layout)
        with whole_file(layout.study_text) as aside:
            aside.write_text(loaded.text, "utf-8")
        write_json(layout.study, config.model_dump(mode="json"))
        write_json(layout.environment, environment())
        plan = plan_study(config, inputs, recorded)
        write_plan(layout, config.name, plan.needs())
        write_json(layout.provenance, provenance(inputs))
        del inputs  # the recordings of a large corpus would stay in memory during the attacks
        slack.give_back()
        scheduler = Scheduler(layout, executor, recorded)
        for name, tasks in stages(plan, layout):
            scheduler.stage(name, tasks)
        slack.give_back()
        write_json(layout.victims, victim_scores(plan, layout))
        collected = collect(plan, layout)
        scheduler.stage("exemplars", exemplar_tasks(plan, layout, collected.flipped))
        recorded.stage("report", 1)
        report_run(layout, collected, time.monotonic() - started)
        recorded.advance()
        if config.tracking is not None:
            track(config, layout)
