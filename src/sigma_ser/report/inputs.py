"""What a report is made from."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sigma_ser.core.errors import RunError
from sigma_ser.core.files import write_json
from sigma_ser.core.rows import read_rows

from .exemplar import Exemplar

if TYPE_CHECKING:
    import polars as pl


@dataclass(frozen=True, eq=False, kw_only=True)
class ReportInputs:
    """The results of one run.

    Args:
        name: name of the study, the title of the page.
        rows: one line for each utterance and cell, with the columns of `core.rows`.
        victims: one mapping for each trained victim and fold: `name`, `fold`, `uar`, `uar_low`,
            `uar_high`, `accuracy`, `macro_f1`, `test_utterances`, `class_names`, `confusion` (C x C
            counts, row = true class), `train_seconds`.
        leakage: the lines of the leakage report, each a mapping with the same keys.
        corpus_card: what is known about the corpus.
        encoder_card: what is known about the encoder.
        environment: versions, device, threads.
        study_text: the study file, as text.
        exemplars: attacked utterances in full.
        replays: perturbations shown to other victims, the columns of `replays.parquet`.
        seconds: wall time of the whole run, where known.
    """

    name: str
    rows: pl.DataFrame
    victims: Sequence[Mapping[str, Any]] = ()
    leakage: Sequence[Mapping[str, Any]] = ()
    corpus_card: Mapping[str, Any] = field(default_factory=dict)
    encoder_card: Mapping[str, Any] = field(default_factory=dict)
    environment: Mapping[str, Any] = field(default_factory=dict)
    study_text: str = ""
    exemplars: Sequence[Exemplar] = ()
    replays: pl.DataFrame | None = None
    seconds: float | int | None = None


# What a run's folder holds elsewhere: rows.parquet, replays.parquet and exemplars/.
_ELSEWHERE = ("rows", "exemplars", "replays")


def save_inputs(folder: Path, inputs: ReportInputs) -> None:
    """Write `report/inputs.json`: all but what has files of its own."""
    rest = {
        item.name: getattr(inputs, item.name)
        for item in dataclasses.fields(inputs)
        if item.name not in _ELSEWHERE
    }
    # Cards may hold paths and the like; the page shows their text.
    write_json(folder / "report" / "inputs.json", json.loads(json.dumps(rest, default=str)))


def load_inputs(folder: Path) -> ReportInputs:
    """The inputs of the report of a finished run.

    Args:
        folder: a run's folder, with `rows.parquet`, `report/inputs.json` and `exemplars/`.

    Raises:
        RunError: if the folder is not that of a finished run.
    """
    import polars as pl

    here = [item for item in dataclasses.fields(ReportInputs) if item.name not in _ELSEWHERE]
    needed = {item.name for item in here
              if item.default is item.default_factory is dataclasses.MISSING}  # fmt: skip
    try:
        rest = json.loads((folder / "report" / "inputs.json").read_text("utf-8"))
        names = set(rest) if isinstance(rest, dict) else set()
        if not needed <= names <= {item.name for item in here}:
            raise ValueError("another version wrote its report")
        kept = folder / "replays.parquet"
        replays = pl.read_parquet(kept, glob=False) if kept.exists() else None
    except (OSError, ValueError, pl.exceptions.PolarsError) as fault:
        raise RunError(
            f"{folder} is not the folder of a finished run ({fault}); "
            "give one, or finish it with sigma-ser run"
        ) from fault
    rows = read_rows(folder / "rows.parquet")
    # Exemplars of an earlier state of the study may lie there too: the rows decide.
    keys = ("utterance", "victim", "attack", "explainer", "scope", "sparsity", "epsilon")
    known = set(rows.select(keys).unique().iter_rows())
    exemplars = [Exemplar.load(path) for path in sorted((folder / "exemplars").glob("*"))]
    shown = [one for one in exemplars if tuple(getattr(one, key) for key in keys) in known]
    return ReportInputs(rows=rows, exemplars=shown, replays=replays, **rest)
