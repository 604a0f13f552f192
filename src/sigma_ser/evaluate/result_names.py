"""What settings and results are called on one line, each under a name of its own."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

Line = Mapping[str, Any]

# Told only where lines of one run would share a name without it.
_VICTIM_APART = ("corpus", "protocol", "encoder", "layer", "seed")
_CELL_APART = (
    "corpus", "protocol", "encoder", "layer", "victim_seed", "attack_seed", "attack_settings",
)  # fmt: skip


def victim_names(*runs: Sequence[Line]) -> list[list[str]]:
    """Fold and name of each victim, for each run; and what else tells two of them apart."""
    return _apart(lambda one: f"{one['fold']}/{one['name']}", _VICTIM_APART, runs)


def cell_names(*runs: Sequence[Line]) -> list[list[str]]:
    """Fold, victim, attack, mask and budget of each cell, for each run; and what else differs."""
    return _apart(_cell, _CELL_APART, runs)


def flattened(values: Mapping[str, Any], above: str = "") -> dict[str, Any]:
    """Nested values under dotted names; lists of tables count from 0.

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
    budget = f"{cell['granularity']}-{cell['sparsity']:g}-{cell['epsilon']:g}"
    return f"{cell['fold']}/{cell['victim']}/{cell['attack']}{mask}/{budget}"


def _apart(
    name: Callable[[Line], str], columns: Sequence[str], runs: Sequence[Sequence[Line]]
) -> list[list[str]]:
    """Names, followed by the columns in which lines of equal name differ within any one run.

    What differs between runs alone is no part of a name: it is what they are compared for.
    """
    told: dict[str, set[str]] = {}
    for lines in runs:
        first: dict[str, Line] = {}
        for line in lines:
            known = first.setdefault(name(line), line)
            differing = {one for one in columns if known.get(one) != line.get(one)}
            told.setdefault(name(line), set()).update(differing)
    return [
        ["/".join([base, *(f"{one}-{line.get(one)}" for one in columns if one in told[base])])
         for line in lines for base in [name(line)]]
        for lines in runs
    ]  # fmt: skip
