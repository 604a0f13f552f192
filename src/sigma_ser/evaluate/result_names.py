"""Unique names on one line for the victims, cells and settings of runs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

Line = Mapping[str, Any]

# Columns that are added to a name only where lines of one run would otherwise share it.
_VICTIM_APART = ("corpus", "protocol", "encoder", "layer", "surface", "seed")
_CELL_APART = (
    "corpus", "protocol", "encoder", "layer", "surface", "victim_seed", "attack_seed",
    "attack_settings",
)  # fmt: skip


def victim_names(*runs: Sequence[Line]) -> list[list[str]]:
    """Name the victims of each run by fold and name, with further columns where these coincide.

    Args:
        *runs: the lines of the victims of each run.

    Returns:
        For each run the names of its lines, in their order.
    """
    return _apart(lambda one: f"{one['fold']}/{one['name']}", _VICTIM_APART, runs)


def cell_names(*runs: Sequence[Line]) -> list[list[str]]:
    """Name the cells of each run by fold, victim, attack, mask and budget.

    Further columns are added where these coincide.

    Args:
        *runs: the lines of the cells of each run.

    Returns:
        For each run the names of its lines, in their order.
    """
    return _apart(_cell, _CELL_APART, runs)


def flattened(values: Mapping[str, Any], above: str = "") -> dict[str, Any]:
    """Flatten nested mappings to dotted names; lists of mappings are numbered from 0.

    Args:
        values: nested mappings.
        above: prefix of the names.

    >>> flattened({"a": {"b": [1, 2]}, "c": [{"d": 3}]})
    {'a.b': [1, 2], 'c.0.d': 3}
    """
    flat: dict[str, Any] = {}
    for key, value in values.items():
        tables = value if isinstance(value, list) else []
        if tables and all(isinstance(one, Mapping) for one in tables):
            numbered = {str(number): one for number, one in enumerate(tables)}
            flat |= flattened(numbered, f"{above}{key}.")
        elif isinstance(value, Mapping):
            flat |= flattened(value, f"{above}{key}.")
        else:
            flat[f"{above}{key}"] = value
    return flat


def _cell(cell: Line) -> str:
    mask = "" if cell["explainer"] is None else (
        f".in.{cell['explainer']}.of.{cell['mask_source']}.x{cell['scope']}"
    )  # fmt: skip
    numbers = (cell["sparsity"], cell["epsilon"], cell["budget_snr"])
    budget = "-".join(
        [cell["granularity"] or "corruption", *(f"{one:g}" for one in numbers if one is not None)]
    )
    if cell["budget_snr"] is not None:
        budget += "dB"
    return f"{cell['fold']}/{cell['victim']}/{cell['attack']}{mask}/{budget}"


def _apart(
    name: Callable[[Line], str], columns: Sequence[str], runs: Sequence[Sequence[Line]]
) -> list[list[str]]:
    """Names, followed by the columns in which lines of equal name differ within any one run.

    Differences between runs are not part of a name: runs are compared in them.
    """
    added: dict[str, set[str]] = {}
    for lines in runs:
        first: dict[str, Line] = {}
        for line in lines:
            known = first.setdefault(name(line), line)
            differing = {one for one in columns if known.get(one) != line.get(one)}
            added.setdefault(name(line), set()).update(differing)
    return [
        ["/".join([base, *(f"{one}-{line.get(one)}" for one in columns if one in added[base])])
         for line in lines for base in [name(line)]]
        for lines in runs
    ]  # fmt: skip
