"""Transfer of perturbations: computed on one victim, replayed on another, as matrices."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from sigma_ser.evaluate.notes import Note, NoteIndex
from sigma_ser.evaluate.transfer import replay_transfer

if TYPE_CHECKING:
    import polars as pl

_SETTING = ("corpus", "protocol", "encoder", "layer", "surface")
_METHOD = ("attack", "attack_settings", "explainer", "mask_source", "scope")
# Number of methods shown; analysis/replay_transfer.csv holds all of them.
_MOST = 4


@dataclass(frozen=True)
class ReplayMatrix:
    """Replays of one method: `cells[source][target]` is a line of `replay_transfer`.

    `own[source]` is the success rate on the source victim itself, averaged over its targets.
    `notes[victim]` are the notes on a victim as a source or as a target.
    """

    title: str
    victims: tuple[str, ...]
    cells: dict[str, dict[str, dict[str, Any]]]
    own: dict[str, float]
    notes: Mapping[str, list[Note]] = field(default_factory=dict)


def replay_matrices(
    replays: pl.DataFrame | None,
    budget: tuple[float, float] | None,
    notes: NoteIndex | None = None,
) -> list[ReplayMatrix]:
    """One matrix for each of the strongest methods whose perturbations were replayed.

    Args:
        replays: `replays.parquet` of a run, or `None`.
        budget: sparsity and epsilon to show.
        notes: notes on the degenerate measurements of the run.
    """
    import polars as pl

    if replays is None or budget is None or replays.is_empty():
        return []
    table = replay_transfer(replays).filter(
        (pl.col("sparsity") == budget[0]) & (pl.col("epsilon") == budget[1])
    )
    varying = [name for name in _SETTING if table[name].n_unique() > 1]
    found = []
    for group in table.partition_by(*varying, *_METHOD, maintain_order=True):
        lines = group.to_dicts()
        cells: dict[str, dict[str, dict[str, Any]]] = {}
        for line in lines:
            cells.setdefault(line["source_victim"], {})[line["target_victim"]] = line
        own = {
            source: sum(line["source_asr"] for line in targets.values()) / len(targets)
            for source, targets in cells.items()
        }
        # Columns in the order of the rows, so that the victims themselves are on the diagonal.
        ends = ("source_victim", "target_victim")
        names = tuple(dict.fromkeys(line[end] for end in ends for line in lines))
        where = [str(lines[0][name]) for name in varying]
        title = " · ".join([_method(lines[0]), *where])
        about = {name: _about_victim(notes, lines[0], name) for name in names} if notes else {}
        found.append(ReplayMatrix(title, names, cells, own, about))
    return sorted(found, key=lambda one: -sum(one.own.values()) / len(one.own))[:_MOST]


def _about_victim(notes: NoteIndex, line: Mapping[str, Any], victim: str) -> list[Note]:
    """The notes on a victim at all budgets; those at one budget are about attacks on itself."""
    found = notes.of({**line, "victim": victim}, "asr")
    return [note for note in found if note["sparsity"] is None]


def _method(line: dict[str, Any]) -> str:
    if line["explainer"] is None:
        return str(line["attack"])
    foreign = "" if line["mask_source"] in (None, "own") else f" of {line['mask_source']}"
    return f"{line['attack']} in {line['explainer']} ×{line['scope'] or 1}{foreign}"
