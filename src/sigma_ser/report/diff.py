"""Compare two runs: which inputs and which results differ."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sigma_ser.core.errors import RunError
from sigma_ser.core.rows import CELL_COLUMNS, TIMING_COLUMNS, read_rows
from sigma_ser.evaluate.result_names import cell_names, flattened, victim_names
from sigma_ser.runs.digests import Digests
from sigma_ser.runs.files import read_object, read_objects
from sigma_ser.runs.layout import RunLayout

if TYPE_CHECKING:
    import polars as pl

_ADVICE = "run its study again, which is quick where everything is finished"
_VICTIM_KEYS = {"fold": str, "name": str, "uar": (int, float)}
_KEYS = [name for name in CELL_COLUMNS if name != "attack_settings"]


@dataclass(frozen=True)
class Change:
    """One value that differs; `None` where a run lacks it."""

    what: str
    first: Any
    second: Any


@dataclass(frozen=True)
class Difference:
    """What differs between two runs.

    `settings` are keys of the study, `environment` versions and machine, `victims` the UAR of each,
    `cells` the success rate of each (with how many utterances changed their outcome), and
    `rows_differ` counts the rows of shared cells in which any column but the timing differs.
    """

    settings: tuple[Change, ...]
    environment: tuple[Change, ...]
    victims: tuple[Change, ...]
    cells: tuple[Change, ...]
    rows_compared: int
    rows_differ: int

    @property
    def any(self) -> bool:
        """Whether anything differs."""
        return bool(
            self.settings or self.environment or self.victims or self.cells or self.rows_differ
        )

    def as_values(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return {**asdict(self), "differ": self.any}

    def lines(self) -> Iterator[str]:
        """The same as lines of text."""
        for title, changes in (
            ("Settings", self.settings),
            ("Environment", self.environment),
            ("Victims, UAR", self.victims),
            ("Cells, success rate", self.cells),
        ):
            if changes:
                yield f"{title}:"
                for one in changes:
                    yield f"  {one.what}: {_shown(one.first)} -> {_shown(one.second)}"
        if not self.rows_compared:
            yield "no utterance was attacked under the same condition in both runs"
        elif self.rows_differ:
            yield f"{self.rows_differ} of {self.rows_compared} rows of shared cells differ"
        else:
            yield f"all {self.rows_compared} rows of shared cells are the same"


def compare_runs(first: Path, second: Path) -> Difference:
    """Compare two finished runs.

    Raises:
        RunError: if one of the folders is not that of a finished run of this version.
    """
    from sigma_ser.evaluate.summary import summarise

    layouts = (RunLayout(first), RunLayout(second))
    for layout in layouts:
        if not layout.rows.is_file():
            raise RunError(
                f"{layout.folder} is not the folder of a finished run (it has no "
                f"{layout.rows.name}); give one, or finish it with sigma-ser run"
            )
        digests = Digests(layout)
        for path in (layout.study, layout.environment, layout.victims, layout.rows):
            digests.check(path)
    studies = [read_object(one.study, (), _ADVICE) for one in layouts]
    surroundings = [read_object(one.environment, (), _ADVICE) for one in layouts]
    victims = [read_objects(one.victims, _VICTIM_KEYS, _ADVICE) for one in layouts]
    rows = [read_rows(one.rows) for one in layouts]
    cells = [summarise(one).to_dicts() for one in rows]
    return Difference(
        _changes(*(flattened(study) for study in studies)),
        _changes(*surroundings),
        _changes(*_figures(victim_names(*victims), victims, "uar")),
        _changes(*_figures(cell_names(*cells), cells, "asr")),
        *_rows_that_differ(*rows),
    )


def _changes(first: Mapping[str, Any], second: Mapping[str, Any]) -> tuple[Change, ...]:
    names = dict.fromkeys([*first, *second])
    return tuple(
        Change(name, first.get(name), second.get(name))
        for name in names
        if first.get(name) != second.get(name)
    )


def _figures(
    names: Sequence[Sequence[str]], runs: Sequence[Sequence[Mapping[str, Any]]], figure: str
) -> list[dict[str, Any]]:
    """One figure of every named line, for each run."""
    return [
        {name: line[figure] for name, line in zip(named, lines, strict=True)}
        for named, lines in zip(names, runs, strict=True)
    ]


def _rows_that_differ(first: pl.DataFrame, second: pl.DataFrame) -> tuple[int, int]:
    import polars as pl

    keys = [*_KEYS, "utterance", "attack_settings"]
    values = [name for name in first.columns if name not in (*keys, *TIMING_COLUMNS)]
    shared = [name for name in values if name in second.columns]
    both = first.join(
        second.select(*keys, *shared), on=keys, how="inner", suffix="_second", nulls_equal=True
    )
    same = pl.all_horizontal(pl.col(name).eq_missing(pl.col(f"{name}_second")) for name in shared)
    return len(both), int(both.select((~same).sum()).item()) if len(both) else 0


def _shown(value: Any) -> str:
    if value is None:
        return "none"
    return f"{value:.4g}" if isinstance(value, float) else json.dumps(value, ensure_ascii=False)
