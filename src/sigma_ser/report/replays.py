"""Transfer of perturbations: computed on one victim, replayed on another, as matrices."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sigma_ser.evaluate.transfer import replay_transfer

if TYPE_CHECKING:
    import polars as pl

_SETTING = ("corpus", "protocol", "encoder", "layer")
_METHOD = ("attack", "attack_settings", "explainer", "mask_source", "scope")
# Number of methods shown; analysis/replay_transfer.csv holds all of them.
_MOST = 4


@dataclass(frozen=True)
class ReplayMatrix:
    """Replays of one method: `cells[source][target]` is a line of `replay_transfer`.

    `own[source]` is the success rate on the source victim itself, averaged over its targets.
    """

    title: str
    victims: tuple[str, ...]
    cells: dict[str, dict[str, dict[str, Any]]]
    own: dict[str, float]


def replay_matrices(
    replays: pl.DataFrame | None, budget: tuple[float, float] | None
) -> list[ReplayMatrix]:
    """One matrix for each of the strongest methods whose perturbations were replayed.

    Args:
        replays: `replays.parquet` of a run, or `None`.
        budget: sparsity and epsilon to show.
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
        names = {line[end] for line in lines for end in ("source_victim", "target_victim")}
        where = [str(lines[0][name]) for name in varying]
        title = " · ".join([_method(lines[0]), *where])
        found.append(ReplayMatrix(title, tuple(sorted(names)), cells, own))
    return sorted(found, key=lambda one: -sum(one.own.values()) / len(one.own))[:_MOST]


def _method(line: dict[str, Any]) -> str:
    if line["explainer"] is None:
        return str(line["attack"])
    foreign = "" if line["mask_source"] in (None, "own") else f" of {line['mask_source']}"
    return f"{line['attack']} in {line['explainer']} ×{line['scope'] or 1}{foreign}"
