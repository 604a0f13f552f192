"""A leaderboard: one JSON file per victim and budget, and a page from a folder of them.

Following RobustBench, each entry holds the numbers that the authors of the victim report next to
the numbers evaluated here; entries are ranked by the latter.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from sigma_ser.core.errors import RunError
from sigma_ser.core.files import content_key, whole_file, write_json
from sigma_ser.core.json_text import parse_json
from sigma_ser.evaluate.rates import UTTERANCE

from .caveats import CAVEATS, MASKED, caveats
from .cells import Cell, page_cells, strongest
from .findings import rows_of
from .formats import cell_budget
from .inputs import ReportInputs
from .page import render
from .readable import victim_names, without_paths
from .run_figures import plain

_FORMAT = 1
_NUMBERS = ("accuracy", "robust_accuracy", "worst_case_asr")


@dataclass(frozen=True)
class LeaderboardEntry:
    """Robustness of one victim at one budget on one surface.

    Args:
        name: name of the entry.
        victim: name of the victim.
        corpus: corpus of the test utterances.
        protocol: split protocol of the corpus.
        encoder: encoder of the attacked features, or of the whole model on the waveform.
        layer: layer of the encoder.
        granularity: kind of unit that the budget counts.
        sparsity: fraction of the elements that may change, in (0, 1].
        epsilon: maximum change of an element, in units of scale; `None` where the budget is a
            signal-to-noise ratio.
        utterances: number of attacked utterances.
        attacks: all methods that were run.
        strongest: the method with the highest success rate.
        evaluated: `accuracy`, `robust_accuracy` (correct before and after every attack) and
            `worst_case_asr` (misclassified after at least one attack, of those correct before), as
            fractions in [0, 1]. An utterance that was attacked in several folds or on several
            seeds of the victim counts once.
        reported: the same numbers as reported by the authors of the victim, with a `source`;
            `None` if there are none.
        notes: what limits the evaluated numbers, as mappings with `code` and `text`.
        format: version of the file format.
        surface: what was attacked, `features` or `waveform`; on the waveform all numbers are those
            after the round trip through a 16-bit file.
        budget_snr: the budget as a signal-to-noise ratio in dB, where it was given as one.
    """

    name: str
    victim: str
    corpus: str
    protocol: str
    encoder: str
    layer: str
    granularity: str
    sparsity: float
    epsilon: float | None
    utterances: int
    attacks: tuple[str, ...]
    strongest: str
    evaluated: Mapping[str, float | None]
    reported: Mapping[str, Any] | None = None
    notes: tuple[Mapping[str, str], ...] = ()
    format: int = _FORMAT
    surface: str = "features"
    budget_snr: float | None = None


def entries(inputs: ReportInputs) -> list[LeaderboardEntry]:
    """One entry per victim and budget of a run, without reported numbers."""
    # Natural corruptions are no attacks.
    cells = [cell for cell in page_cells(inputs.rows).to_dicts() if cell["kind"] != "corruption"]
    groups: dict[tuple[Any, ...], list[Cell]] = {}
    for cell in cells:
        budget = (cell["sparsity"], cell["epsilon"], cell["budget_snr"])
        groups.setdefault((cell["panel"], cell["surface"], *budget), []).append(cell)
    found = []
    for group in groups.values():
        best = strongest(group)
        if best is None:
            continue
        correct, robust, total = _ensemble(inputs, group)
        names = ("victim", "corpus", "protocol", "encoder", "layer", "granularity")
        setting: dict[str, Any] = {name: best[name] or "" for name in names}
        found.append(
            LeaderboardEntry(
                name=inputs.name,
                **setting,
                sparsity=best["sparsity"],
                epsilon=best["epsilon"],
                surface=best["surface"] or "features",
                budget_snr=best["budget_snr"],
                utterances=total,
                attacks=tuple(sorted({cell["method"] for cell in group})),
                strongest=best["method"],
                evaluated={
                    "accuracy": correct / total,
                    "robust_accuracy": robust / total,
                    "worst_case_asr": (correct - robust) / correct if correct else None,
                },
                notes=_notes(inputs, group),
            )
        )
    return found


def write_entries(folder: Path, inputs: ReportInputs) -> list[Path]:
    """Write the entries of a run; reported numbers in existing files are preserved."""
    paths = []
    for entry in entries(inputs):
        fields = asdict(entry)
        setting: tuple[str, ...]
        setting = ("name", "victim", "corpus", "protocol", "encoder", "layer", "granularity",
                   "sparsity", "epsilon")  # fmt: skip
        if entry.surface != "features":
            setting = (*setting, "surface", "budget_snr")
        key = content_key([fields[name] for name in setting], digits=10)
        stem = re.sub(r"[^\w.-]+", "-", f"{entry.name}-{entry.victim}").strip("-.")[:80]
        path = folder / f"{stem}-{key}.json"
        if path.exists():
            fields["reported"] = read_entry(path).reported
        write_json(path, fields)
        paths.append(path)
    return paths


def read_entry(path: Path) -> LeaderboardEntry:
    """Read one entry.

    Raises:
        RunError: if the file is not a valid entry, or has a newer format.
    """
    try:
        fields = parse_json(path.read_text("utf-8"))
        lists = {"attacks": tuple(fields["attacks"]), "notes": tuple(fields.get("notes", ()))}
        entry = LeaderboardEntry(**{**fields, **lists})
        for numbers in (entry.evaluated, entry.reported or {}):
            for name in _NUMBERS:
                value = numbers.get(name)
                if value is not None and not 0 <= float(value) <= 1:
                    raise ValueError(f"{name} must be a fraction in [0, 1], got {value}")
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as fault:
        raise RunError(
            f"{path} is not a leaderboard entry ({fault}); correct or remove it"
        ) from fault
    if entry.format != _FORMAT:
        raise RunError(
            f"{path} has format {entry.format}, but this version reads {_FORMAT}; update sigma-ser"
        )
    return entry


def read_boards(folder: Path) -> list[list[LeaderboardEntry]]:
    """The entries of a folder: one list per setting and budget, ranked.

    Raises:
        RunError: if the folder contains no entry.
    """
    found = [read_entry(path) for path in sorted(folder.glob("*.json"))]
    if not found:
        raise RunError(
            f"{folder} contains no leaderboard entries; write them with "
            f"sigma-ser report RUN --entries {folder}"
        )
    groups: dict[tuple[Any, ...], list[LeaderboardEntry]] = {}
    for entry in found:
        groups.setdefault(_board(entry), []).append(entry)
    return [sorted(groups[key], key=_rank) for key in sorted(groups)]


def boards_as_json(boards: Sequence[Sequence[LeaderboardEntry]]) -> list[dict[str, Any]]:
    """Boards as plain values: the `budget` in words, and the `entries` in the order of ranks."""
    return [
        {
            "budget": cell_budget(asdict(board[0])),
            "entries": [plain(asdict(entry)) for entry in board],
        }
        for board in boards
    ]


def write_leaderboard(folder: Path) -> Path:
    """Write `index.html` into a folder of entries, with one table per setting and budget.

    Raises:
        RunError: if the folder contains no entry.
    """
    boards = [
        {"budget": cell_budget(asdict(entries[0])), "entries": _shown(entries)}
        for entries in read_boards(folder)
    ]
    page = folder / "index.html"
    with whole_file(page) as aside:
        aside.write_text(
            render(
                "leaderboard.html",
                {"title": "Leaderboard", "boards": boards, "note_names": CAVEATS},
            ),
            "utf-8",
        )
    return page


def _shown(board: Sequence[LeaderboardEntry]) -> list[LeaderboardEntry]:
    """Entries with the names that a page shows."""
    names = victim_names({entry.victim for entry in board})
    return [
        replace(one, victim=names[one.victim], encoder=without_paths(one.encoder)) for one in board
    ]


def _board(entry: LeaderboardEntry) -> tuple[Any, ...]:
    """What entries must share to be ranked in one table; sortable."""
    bounds = [(-math.inf if one is None else one) for one in (entry.epsilon, entry.budget_snr)]
    return (entry.corpus, entry.protocol, entry.surface, entry.granularity, entry.sparsity, *bounds)


def _rank(entry: LeaderboardEntry) -> tuple[bool, float]:
    """Descending robust accuracy; that of a masked victim is an upper bound, so it comes last."""
    masked = any(note["code"] == MASKED for note in entry.notes)
    return masked, -(entry.evaluated["robust_accuracy"] or 0.0)


def _notes(inputs: ReportInputs, group: list[Cell]) -> tuple[dict[str, str], ...]:
    """The notes on the success rates of a victim at a budget, each once."""
    found = [note for cell in group for note in caveats(inputs, cell, "asr")]
    return tuple({note["text"]: note for note in found}.values())


def _ensemble(inputs: ReportInputs, group: list[Cell]) -> tuple[float, float, int]:
    """Numbers of correct utterances, of robust utterances, and of all utterances.

    The worst seed of an attack counts. Folds and seeds of the victim are trials of one utterance,
    which enters with the mean of its trials.
    """
    import polars as pl

    # Random controls do not count as attacks.
    attacks = [cell for cell in group if cell["kind"] != "control"] or group
    rows = pl.concat([rows_of(inputs.rows, cell) for cell in attacks])
    trials = rows.group_by(*UTTERANCE, "fold", "victim_seed").agg(
        pl.col("correct_before").first().alias("correct"),
        (pl.col("correct_before") & ~pl.col("success").any()).first().alias("robust"),
    )
    outcomes = trials.group_by(UTTERANCE).agg(pl.col("correct").mean(), pl.col("robust").mean())
    # Sorting makes the floating-point sum independent of the order of rows.
    return (
        float(outcomes["correct"].sort().sum()),
        float(outcomes["robust"].sort().sum()),
        len(outcomes),
    )
