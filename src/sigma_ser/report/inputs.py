"""What a report is made from: the files of a run folder, and nothing else."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sigma_ser.core.errors import DamagedRunError, RunError
from sigma_ser.core.rows import read_rows
from sigma_ser.evaluate.alarm.table import alarm_table
from sigma_ser.evaluate.notes import NoteIndex, degenerate
from sigma_ser.evaluate.rates import headline
from sigma_ser.runs.digests import Digests
from sigma_ser.runs.files import read_object, read_objects
from sigma_ser.runs.layout import RunLayout
from sigma_ser.runs.repairs import read_repairs

from .certificates import MASK
from .changes import kept_changes
from .exemplar import Exemplar

if TYPE_CHECKING:
    import polars as pl


@dataclass(frozen=True, eq=False, kw_only=True)
class ReportInputs:
    """The results of one run.

    Args:
        name: name of the study.
        title: title of the page; empty where the study has none.
        rows: one line for each utterance and cell, with the columns of `core.rows` and the
            outcomes of `rates.headline`.
        victims: one mapping for each trained victim and fold: `name`, `fold`, `uar`, `uar_low`,
            `uar_high`, `accuracy`, `macro_f1`, `test_utterances`, `class_names`, `confusion` (C x C
            counts, row = true class), `train_seconds`.
        leakage: the lines of the leakage report, each a mapping with the same keys.
        corpus_card: what is known about the corpus.
        encoder_card: what is known about the encoder.
        environment: versions and machine.
        study_text: the study file, as text.
        exemplars: attacked utterances in full.
        exemplar_sounds: whether the page embeds their sounds; `None` where the study leaves this
            to the licence of the corpus.
        replays: perturbations replayed on other victims, the columns of `replays.parquet`.
        certificates: lower bounds on the margins, the columns of `certificates.parquet`.
        alarms: scores of alarms, the columns of `alarms.parquet`.
        changes: which values the attacks changed, see `kept_changes`; `None` where none are kept.
        seconds: wall time of the whole run, where known.
        repairs: files that were found damaged and were made again; see `read_repairs`.
    """

    name: str
    rows: pl.DataFrame
    title: str = ""
    victims: Sequence[Mapping[str, Any]] = ()
    leakage: Sequence[Mapping[str, Any]] = ()
    corpus_card: Mapping[str, Any] = field(default_factory=dict)
    encoder_card: Mapping[str, Any] = field(default_factory=dict)
    environment: Mapping[str, Any] = field(default_factory=dict)
    study_text: str = ""
    exemplars: Sequence[Exemplar] = ()
    exemplar_sounds: bool | None = None
    replays: pl.DataFrame | None = None
    certificates: pl.DataFrame | None = None
    alarms: pl.DataFrame | None = None
    changes: pl.DataFrame | None = None
    seconds: float | int | None = None
    repairs: Sequence[Mapping[str, Any]] = ()

    @cached_property
    def notes(self) -> NoteIndex:
        """Notes on the degenerate measurements of the run."""
        return NoteIndex(degenerate(self.rows, self.victims))

    @cached_property
    def detections(self) -> pl.DataFrame | None:
        """Figures of the alarms, see `evaluate.alarm.alarm_table`."""
        return None if self.alarms is None else alarm_table(self.alarms)

    @property
    def redistributable(self) -> bool:
        """Whether the cards of all corpora of the run state that the licence permits it."""
        return self.corpus_card.get("redistributable") is True

    @property
    def embeds_sounds(self) -> bool:
        """Whether the page contains sounds: as the study says, or as the licence permits."""
        wanted = self.exemplar_sounds
        return self.redistributable if wanted is None else wanted


_AGAIN = "run its study again, which is quick where everything is finished"
_PROVENANCE_KEYS = {"leakage": list, "corpus": dict, "encoder": dict}
_VICTIM_KEYS = {"name": str, "fold": str, "uar": (int, float), "confusion": list}
# What identifies the cell of an exemplar.
_CELL = (
    "utterance", "surface", "victim", "attack", "explainer", "scope",
    "sparsity", "epsilon", "budget_snr",
)  # fmt: skip


def load_inputs(folder: Path) -> ReportInputs:
    """The results of a finished run.

    Args:
        folder: the run folder.

    Raises:
        RunError: if it is not the folder of a finished run, or a file is damaged.
    """
    if not folder.is_dir():
        raise RunError(f"there is no folder {folder}; give the folder of a finished run")
    layout = RunLayout(folder)
    for path in (layout.rows, layout.provenance, layout.study, layout.victims):
        if not path.is_file():
            raise RunError(
                f"{folder} is not the folder of a finished run (it has no {path.name}); give the "
                "folder of a finished run, or finish this run with sigma-ser run"
            )
    digests = Digests(layout)
    for path in (
        layout.rows, layout.replays, layout.certificates, layout.alarms, layout.provenance,
        layout.study, layout.study_text, layout.victims, layout.environment, layout.repairs,
    ):  # fmt: skip
        digests.check(path)
    rows = headline(read_rows(layout.rows))
    known = read_object(layout.provenance, _PROVENANCE_KEYS, _AGAIN)
    stamp = read_object(layout.page_stamp, (), _AGAIN) if layout.page_stamp.is_file() else {}
    study = read_object(layout.study, ("name",), _AGAIN)
    return ReportInputs(
        name=str(study["name"]),
        title=str(study.get("title") or ""),
        rows=rows,
        victims=read_objects(layout.victims, _VICTIM_KEYS, _AGAIN),
        leakage=known["leakage"],
        corpus_card=known["corpus"],
        encoder_card=known["encoder"],
        environment=read_object(layout.environment, (), _AGAIN),
        study_text=_text(layout.study_text),
        exemplars=_exemplars(layout, digests, rows),
        exemplar_sounds=study.get("evaluation", {}).get("exemplar_sounds"),
        replays=_table(layout.replays),
        certificates=_certificates(layout.certificates),
        alarms=_table(layout.alarms),
        changes=kept_changes(layout, digests, known["encoder"].get("dim")),
        seconds=stamp.get("seconds"),
        repairs=read_repairs(layout),
    )


def _exemplars(layout: RunLayout, digests: Digests, rows: pl.DataFrame) -> list[Exemplar]:
    """The exemplars of the rows; those of an earlier state of the study may lie there too."""
    known = set(rows.select(_CELL).unique().iter_rows())
    paths = sorted(layout.exemplars.glob("*.safetensors"))
    for path in paths:
        digests.check(path)
    found = [Exemplar.load(path) for path in paths]
    return [one for one in found if tuple(getattr(one, key) for key in _CELL) in known]


def _table(path: Path) -> pl.DataFrame | None:
    """A table that not every run has."""
    import polars as pl

    if not path.exists():
        return None
    try:
        return pl.read_parquet(path, glob=False)
    except (OSError, pl.exceptions.PolarsError) as fault:
        raise DamagedRunError(f"{path} is damaged ({fault}); {_AGAIN}", path) from fault


def _certificates(path: Path) -> pl.DataFrame | None:
    """The certificates of a run, with the columns of their masks."""
    found = _table(path)
    lacking = [] if found is None else [name for name in MASK if name not in found.columns]
    if lacking:
        raise RunError(
            f"{path} was written by another version of sigma-ser, which had no column "
            f"{lacking[0]!r}; run the study again with this one"
        )
    return found


def _text(path: Path) -> str:
    try:
        return path.read_text("utf-8")
    except (OSError, ValueError) as fault:
        raise RunError(f"{path} cannot be read ({fault}); {_AGAIN}") from fault
