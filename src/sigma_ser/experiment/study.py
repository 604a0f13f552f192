"""Run a study: corpus, features, victims, maps, attacks, rows; only what is missing."""

from __future__ import annotations

import inspect
import json
import os
import platform
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from sigma_ser.attacks.factory import attack
from sigma_ser.core import registry
from sigma_ser.core.errors import ConfigError, RunError
from sigma_ser.core.files import whole_file, write_json
from sigma_ser.core.rows import schema
from sigma_ser.corpora.corpus import Corpus, load_corpus
from sigma_ser.corpora.folds import Fold, make_folds
from sigma_ser.corpora.leakage import leakage_report
from sigma_ser.encoders.encoder import Encoder, load_encoder
from sigma_ser.encoders.extraction import extract
from sigma_ser.encoders.store import FeatureStore
from sigma_ser.execution.executor import Executor, load_executor
from sigma_ser.explainers.explanation import make_explainer
from sigma_ser.report.exemplar import Exemplar
from sigma_ser.report.inputs import ReportInputs
from sigma_ser.report.writer import write_report
from sigma_ser.victims.checkpoint import make_head
from sigma_ser.victims.training import TrainingSettings

from .config import StudyConfig, load_study, parse_study
from .exemplars import make_exemplars
from .lock import run_lock
from .plan import Plan, VictimStep, key_of_features, make_plan
from .progress import Progress, Silent
from .work import Conditions, PartTask, RunPaths, TrainTask, close_opened, train_victim, work

if TYPE_CHECKING:
    import polars as pl

TaskT = TypeVar("TaskT", TrainTask, PartTask)


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
        import polars as pl

        return pl.read_parquet(self.folder / "rows.parquet")

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
        text = Path(study).read_text("utf-8")
    folder = Path(out) if out is not None else Path("runs") / config.name
    text += "".join(f"\n# --set {override}" for override in overrides)
    try:
        _Run(config, folder.absolute(), text, progress or Silent()).execute(started)
    except OSError as fault:
        raise RunError(
            f"cannot go on in {folder}: {fault.strerror or fault}; mend that and run the same "
            "command again, what is finished is kept"
        ) from fault
    return Study(config, folder.absolute(), time.monotonic() - started)


class _Run:
    """One execution of a study in one folder."""

    def __init__(self, config: StudyConfig, folder: Path, text: str, progress: Progress) -> None:
        self.config = config
        self.folder = folder
        self.text = text
        self.progress = progress
        self.executor: Executor = load_executor(config.executor.name, **config.executor.settings)

    def execute(self, started: float) -> None:
        # Whatever can be wrong with the study is found before anything is written.
        check_names(self.config)
        section = self.config.corpus
        corpus = load_corpus(section.name, section.root, **section.settings)
        folds = _chosen_folds(self.config, corpus)
        encoding = self.config.encoder
        encoder = load_encoder(encoding.name, layer=encoding.layer, **encoding.settings)
        close_opened()  # of an earlier run, whose files may have been deleted since
        with run_lock(self.folder):
            self._begin()
            key = key_of_features(corpus, encoder.key)
            paths = RunPaths(self.folder, self.folder / "features" / key)
            store = self._extract(corpus, encoder, paths.features)
            folds = [_usable(fold, store) for fold in folds]
            plan = make_plan(
                self.config,
                corpus=corpus,
                folds=folds,
                features_key=key,
                lengths=dict(zip(store.ids, store.lengths(store.ids).tolist(), strict=True)),
            )
            conditions = Conditions(
                corpus=corpus.name,
                protocol=section.protocol,
                encoder=str(encoder.card["name"]),
                layer=str(encoder.card["layer"]),
                frame_seconds=encoder.frame_seconds,
                batch_size=self.config.evaluation.batch_size,
                seed=self.config.evaluation.seed,
            )
            self._compute(plan, paths, conditions, corpus)
            self._collect(plan, paths)
            exemplars = make_exemplars(plan, paths, conditions, corpus)
            self._report(corpus, folds, encoder.card, exemplars, time.monotonic() - started)

    def _begin(self) -> None:
        with whole_file(self.folder / "study.toml") as aside:
            aside.write_text(self.text, "utf-8")
        write_json(self.folder / "study.json", self.config.model_dump(mode="json"))
        write_json(self.folder / "environment.json", environment())

    def _extract(self, corpus: Corpus, encoder: Encoder, folder: Path) -> FeatureStore:
        self.progress.stage("features", len(corpus))
        before = 0

        def extracted(done: int, total: int) -> None:
            nonlocal before
            self.progress.advance(done - before)
            before = done

        return extract(corpus, encoder, out=folder, progress=extracted)

    def _compute(self, plan: Plan, paths: RunPaths, conditions: Conditions, corpus: Corpus) -> None:
        """Victims, maps, floors, attacks: each stage needs the files of those before it."""
        lessons = [TrainTask(paths, step) for step in plan.victims]
        self._stage("victims", train_victim, lessons)
        write_json(self.folder / "victims.json", [_scores(paths, step) for step in plan.victims])
        for name, steps in (
            ("explanations", plan.saliencies),
            ("floors", plan.floors),
            ("attacks", plan.attacks),
        ):
            tasks = [
                PartTask(paths, conditions, step, number, tuple(corpus[one] for one in ids))
                for step in steps
                for number, ids in plan.parts(step.victim.fold.name)
            ]
            self._stage(name, work, tasks)

    def _stage(self, name: str, function: Callable[[TaskT], Path], tasks: Sequence[TaskT]) -> None:
        """Let the executor do what is not there yet."""
        missing = [task for task in tasks if not task.target.exists()]
        self.progress.stage(name, len(tasks), cached=len(tasks) - len(missing))
        if missing:
            for _ in self.executor.completed(function, missing):
                self.progress.advance()

    def _collect(self, plan: Plan, paths: RunPaths) -> None:
        """All rows in one file, in the order of the plan."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        with (
            whole_file(self.folder / "rows.parquet") as aside,
            pq.ParquetWriter(aside, schema()) as writer,
        ):
            for step in plan.attacks:
                for number, _ in plan.parts(step.victim.fold.name):
                    path = paths.rows(step, number)
                    try:
                        writer.write_table(pq.read_table(path, schema=schema()))
                    except pa.ArrowInvalid as fault:
                        raise RunError(
                            f"{path} is damaged ({fault}); delete it and run again"
                        ) from fault

    def _report(
        self,
        corpus: Corpus,
        folds: Sequence[Fold],
        encoder_card: Mapping[str, Any],
        exemplars: Sequence[Exemplar],
        seconds: float,
    ) -> None:
        self.progress.stage("report", 1)
        study = Study(self.config, self.folder, seconds)
        inputs = ReportInputs(
            name=self.config.name,
            rows=study.rows,
            victims=study.victims,
            leakage=list(leakage_report(corpus, folds)),
            corpus_card={
                "name": corpus.name,
                "utterances": len(corpus),
                **vars(corpus.card),
                "differences": "; ".join(corpus.differences),
                "quarantined": len(corpus.quarantine),
            },
            encoder_card=encoder_card,
            environment=environment(),
            study_text=self.text,
            exemplars=exemplars,
            seconds=seconds,
        )
        write_report(self.folder, inputs)
        self.progress.advance()


def check_names(config: StudyConfig) -> None:
    """Make everything that a study names once, so that a typo costs no work.

    Raises:
        UnknownNameError: if something is not registered.
        SigmaError: if it does not take its settings.
    """
    registry.get("corpus", config.corpus.name)
    registry.get("protocol", config.corpus.protocol)
    for victim in config.victims:
        make_head(victim.head, 2, 2, victim.head_settings)
        TrainingSettings.of(victim.settings)
    explainers = {name for section in config.attacks for name in section.explainers}
    if config.consistency.explainer is not None:
        explainers.add(config.consistency.explainer)
    for name in sorted(explainers):
        settings = dict(config.explainers.get(name, {}))
        make_explainer(str(settings.pop("name", name)), **settings)
    for section in config.attacks:
        attack(section.name, **section.settings)
    known = set(inspect.signature(load_encoder).parameters) - {"name_or_path", "layer"}
    for key in config.encoder.settings:
        if key not in known:
            raise ConfigError(
                f"encoder.{key}: load_encoder has no such setting; known: "
                f"{', '.join(sorted(known))}"
            )


def _chosen_folds(config: StudyConfig, corpus: Corpus) -> list[Fold]:
    section = config.corpus
    folds = make_folds(corpus, section.protocol, seed=section.seed, **section.protocol_settings)
    wanted = range(len(folds)) if section.folds is None else section.folds
    for number in wanted:
        if not 0 <= number < len(folds):
            raise ConfigError(
                f"corpus.folds: there is no fold {number}, {section.protocol!r} has "
                f"folds 0 to {len(folds) - 1}"
            )
    return [folds[number] for number in wanted]


def _usable(fold: Fold, store: FeatureStore) -> Fold:
    """The fold without recordings that gave no features; the store names them."""
    known = set(store.ids)

    def kept(ids: Sequence[str]) -> tuple[str, ...]:
        return tuple(name for name in ids if name in known)

    return Fold(fold.name, kept(fold.train), kept(fold.validation), kept(fold.test))


def _scores(paths: RunPaths, step: VictimStep) -> dict[str, Any]:
    """What the page and the table say about one victim."""
    folder = paths.victim(step)
    card = json.loads((folder / "card.json").read_text("utf-8"))
    timing = json.loads((folder / "timing.json").read_text("utf-8"))
    return {
        "name": step.name,
        "fold": step.fold.name,
        "head": step.head,
        "seed": step.seed,
        **card["metrics"]["test"],
        **timing,
    }


def environment() -> dict[str, Any]:
    """What may matter to who repeats the run."""
    from importlib.metadata import PackageNotFoundError, version

    def installed(name: str) -> str:
        try:
            return version(name)
        except PackageNotFoundError:
            return "absent"

    packages = ("sigma-ser", "torch", "transformers", "captum", "numpy", "polars", "soxr")
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cores": len(os.sched_getaffinity(0)),
        **{name: installed(name) for name in packages},
    }
