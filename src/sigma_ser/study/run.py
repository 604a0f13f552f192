"""Run a study: corpora, features, victims, maps, attacks, rows; only what is missing."""

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
from sigma_ser.execution.executor import Executor, load_executor
from sigma_ser.execution.memory import Slack, bound_primitive_cache, let_tables_go
from sigma_ser.runs.garbage import remember_plan, remove_asides
from sigma_ser.runs.lock import run_lock
from sigma_ser.runs.provenance import environment
from sigma_ser.runs.status import Told

from .artifacts import RunPaths, close_opened
from .collecting import collect
from .config import StudyConfig
from .inputs import Scene, make_plan_of, open_scenes
from .loading import load_study, parse_study, read_texts
from .names import check_names
from .report import provenance, report_run, victim_scores
from .scheduler import compute, read_failures
from .tracking import track

if TYPE_CHECKING:
    import polars as pl


@dataclass(frozen=True)
class Study:
    """A finished run.

    `folder` holds everything; `seconds` is the wall time of this call, of which little is left
    where most was there already.
    """

    config: StudyConfig
    folder: Path
    seconds: float

    @cached_property
    def rows(self) -> pl.DataFrame:
        """One row for each utterance and cell, with the columns of `core.rows`."""
        return read_rows(self.folder / "rows.parquet")

    @cached_property
    def replays(self) -> pl.DataFrame | None:
        """What other victims said to the perturbations; `None` unless `evaluation.replay`."""
        import polars as pl

        path = self.folder / "replays.parquet"
        return pl.read_parquet(path) if path.exists() else None

    @cached_property
    def summary(self) -> pl.DataFrame:
        """One line for each cell; see `evaluate.summary.summarise`."""
        from sigma_ser.evaluate.summary import summarise

        return summarise(self.rows)

    @property
    def victims(self) -> list[dict[str, Any]]:
        """Name, fold and test scores of each victim."""
        values: list[dict[str, Any]] = json.loads((self.folder / "victims.json").read_text("utf-8"))
        return values

    @property
    def failures(self) -> list[dict[str, Any]]:
        """Shards that could not be computed: where, which utterances, and why."""
        return read_failures(self.folder)

    @property
    def report(self) -> Path:
        """The page."""
        return self.folder / "report" / "index.html"


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
        out: folder of the run; `runs/<name>` by default.
        overrides: `a.b=value` each.
        progress: is told where the run stands.

    Raises:
        ConfigError: if the study is wrong; nothing has been written then.
        RunError: if the folder cannot be written or another run is at work in it.
    """
    started = time.monotonic()
    if isinstance(study, Mapping):
        config, text = parse_study(study, overrides), json.dumps(study, indent=2, default=str)
    else:
        config = load_study(Path(study), overrides)
        text = read_texts(Path(study))
    folder = Path(out) if out is not None else Path("runs") / config.name
    text += "".join(f"\n# --set {override}" for override in overrides)
    try:
        _execute(config, folder.absolute(), text, progress or Silent(), started)
    except OSError as fault:
        raise RunError(
            f"cannot go on in {folder}: {fault.strerror or fault}; mend that and run the same "
            "command again, what is finished is kept"
        ) from fault
    return Study(config, folder.absolute(), time.monotonic() - started)


def _execute(
    config: StudyConfig, folder: Path, text: str, progress: Progress, started: float
) -> None:
    bound_primitive_cache()
    let_tables_go()
    slack = Slack()
    # Whatever can be wrong with the study is found before anything is written.
    executor: Executor = load_executor(config.executor.name, **config.executor.settings)
    check_names(config)
    scenes: list[Scene] = open_scenes(config)
    close_opened()  # of an earlier run, whose files may have been deleted since
    with run_lock(folder), Told(folder, progress) as told:
        remove_asides(folder)
        with whole_file(folder / "study.toml") as aside:
            aside.write_text(text, "utf-8")
        write_json(folder / "study.json", config.model_dump(mode="json"))
        write_json(folder / "environment.json", environment())
        paths = RunPaths(folder)
        plan = make_plan_of(config, scenes, paths, told)
        remember_plan(plan, paths)
        known = provenance(scenes)
        del scenes  # of a million recordings they weigh hundreds of megabytes
        slack.give_back()
        compute(plan, paths, executor, told)
        close_opened()
        slack.give_back()
        scores = victim_scores(plan, paths)
        write_json(folder / "victims.json", scores)
        collected = collect(plan, paths)
        seconds = time.monotonic() - started
        report_run(plan, paths, known, collected, text=text, seconds=seconds, progress=told)
        if config.tracking is not None:
            track(config, folder, scores)
