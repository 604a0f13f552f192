"""A leaderboard: one JSON file for each victim and budget, and a page from a folder of them.

After the manner of RobustBench: the number that the authors report stands beside the one that was
evaluated here, and what is ranked is the evaluated one.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from sigma_ser.core.errors import RunError
from sigma_ser.core.files import content_key, whole_file, write_json
from sigma_ser.evaluate.rates import UTTERANCE

from .cells import Cell, page_cells, strongest
from .findings import rows_of
from .inputs import ReportInputs
from .page import render

_FORMAT = 1
_NUMBERS = ("accuracy", "robust_accuracy", "worst_case_asr")


@dataclass(frozen=True)
class Entry:
    """What one victim withstood at one budget.

    Args:
        name: name of the entry.
        victim: name of the head.
        corpus: corpus of the test utterances.
        protocol: how it was split.
        encoder: whose features were attacked.
        layer: of the encoder.
        granularity: units that the budget counts.
        sparsity: share of the elements that may change.
        epsilon: the largest move, in units of scale.
        utterances: recordings that were attacked.
        attacks: every method that was tried.
        strongest: the one that took the most.
        evaluated: `accuracy`, `robust_accuracy` (right before and after every attack) and
            `worst_case_asr` (flipped by any attack / right before), as fractions; a recording that
            was tried in several folds or on several seeds of the victim weighs as any other.
        reported: the same as the victim's authors give them, with a `source`; `None` where they
            give none.
        format: version of this format.
    """

    name: str
    victim: str
    corpus: str
    protocol: str
    encoder: str
    layer: str
    granularity: str
    sparsity: float
    epsilon: float
    utterances: int
    attacks: tuple[str, ...]
    strongest: str
    evaluated: Mapping[str, float | None]
    reported: Mapping[str, Any] | None = None
    format: int = _FORMAT


def entries(inputs: ReportInputs) -> list[Entry]:
    """One entry for each victim and budget of a run, without reported numbers."""
    cells = page_cells(inputs.rows).to_dicts()
    groups: dict[tuple[Any, ...], list[Cell]] = {}
    for cell in cells:
        groups.setdefault((cell["panel"], cell["sparsity"], cell["epsilon"]), []).append(cell)
    found = []
    for group in groups.values():
        best = strongest(group)
        if best is None:
            continue
        right, held, everyone = _ensemble(inputs, group)
        names = ("victim", "corpus", "protocol", "encoder", "layer", "granularity")
        setting: dict[str, Any] = {name: best[name] or "" for name in names}
        found.append(
            Entry(
                name=inputs.name,
                **setting,
                sparsity=best["sparsity"],
                epsilon=best["epsilon"],
                utterances=everyone,
                attacks=tuple(sorted({cell["method"] for cell in group})),
                strongest=best["method"],
                evaluated={
                    "accuracy": right / everyone,
                    "robust_accuracy": held / everyone,
                    "worst_case_asr": (right - held) / right if right else None,
                },
            )
        )
    return found


def write_entries(folder: Path, inputs: ReportInputs) -> list[Path]:
    """Write the entries of a run; reported numbers that a file already has are kept."""
    paths = []
    for entry in entries(inputs):
        fields = asdict(entry)
        setting = ("name", "victim", "corpus", "protocol", "encoder", "layer", "granularity",
                   "sparsity", "epsilon")  # fmt: skip
        key = content_key([fields[name] for name in setting], digits=10)
        stem = re.sub(r"[^\w.-]+", "-", f"{entry.name}-{entry.victim}").strip("-.")[:80]
        path = folder / f"{stem}-{key}.json"
        if path.exists():
            fields["reported"] = read_entry(path).reported
        write_json(path, fields)
        paths.append(path)
    return paths


def read_entry(path: Path) -> Entry:
    """Read one entry.

    Raises:
        RunError: if the file is not one, or is of a later format.
    """
    try:
        fields = json.loads(path.read_text("utf-8"))
        entry = Entry(**{**fields, "attacks": tuple(fields["attacks"])})
        for numbers in (entry.evaluated, entry.reported or {}):
            for name in _NUMBERS:
                value = numbers.get(name)
                if value is not None and not 0 <= float(value) <= 1:
                    raise ValueError(f"{name} must be a fraction in [0, 1], got {value}")
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as fault:
        raise RunError(f"{path} is not a leaderboard entry ({fault}); mend or remove it") from fault
    if entry.format != _FORMAT:
        raise RunError(f"{path} has format {entry.format}, this version reads {_FORMAT}; update")
    return entry


def write_leaderboard(folder: Path) -> Path:
    """Write `index.html` into a folder of entries: a table for each setting and budget.

    Raises:
        RunError: if the folder holds no entry.
    """
    found = [read_entry(path) for path in sorted(folder.glob("*.json"))]
    if not found:
        raise RunError(f"{folder} holds no entry; make some with sigma-ser report --entries")
    groups: dict[tuple[Any, ...], list[Entry]] = {}
    for entry in found:
        key = (entry.corpus, entry.protocol, entry.granularity, entry.sparsity, entry.epsilon)
        groups.setdefault(key, []).append(entry)
    for group in groups.values():
        group.sort(key=lambda entry: -(entry.evaluated["robust_accuracy"] or 0.0))
    boards = [{"setting": key, "entries": group} for key, group in sorted(groups.items())]
    page = folder / "index.html"
    with whole_file(page) as aside:
        aside.write_text(
            render("leaderboard.html", {"title": "Leaderboard", "boards": boards}), "utf-8"
        )
    return page


def _ensemble(inputs: ReportInputs, group: list[Cell]) -> tuple[float, float, int]:
    """How many utterances were right, how many no attack took, and how many there are.

    Of the seeds of an attack the worst one counts. Folds and seeds of the victim are trials of one
    utterance, not more utterances: it enters with the mean of its trials.
    """
    import polars as pl

    # A random control is no attack that a victim must withstand.
    attacks = [cell for cell in group if cell["kind"] != "control"] or group
    rows = pl.concat([rows_of(inputs.rows, cell) for cell in attacks])
    trials = rows.group_by(*UTTERANCE, "fold", "victim_seed").agg(
        pl.col("correct_before").first().alias("right"),
        (pl.col("correct_before") & ~pl.col("success").any()).first().alias("held"),
    )
    fates = trials.group_by(UTTERANCE).agg(pl.col("right").mean(), pl.col("held").mean())
    # Sums in one order give one result.
    return float(fates["right"].sort().sum()), float(fates["held"].sort().sum()), len(fates)
