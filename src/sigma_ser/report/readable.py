"""Names and settings of a run as a reader of its page needs them: no hashes, no local paths."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import PureWindowsPath
from typing import TYPE_CHECKING, Any

from .inputs import ReportInputs

if TYPE_CHECKING:
    import polars as pl

# A folder of a trained victim ends in the first digits of its key.
_KEYED = re.compile(r"(?P<name>.+)-(?=[a-f]*\d)[0-9a-f]{8}")
_QUOTED = re.compile(r"""(["'])(?:file://)?((?:/|~/|[A-Za-z]:[\\/])[^"'\n]+)\1""")
_BARE = re.compile(r"(?<![\w.:/<~\\])(?:file://)?(?:~|[A-Za-z]:)?[/\\](?:[^\s\"'<>:;,/\\]+[/\\])+"
                   r"[^\s\"'<>:;,/\\]+")  # fmt: skip
_WHOLE = re.compile(r"(?:file://)?(?:/|~/|[A-Za-z]:[\\/])[^\n]*[/\\][^\n]*")
_VICTIMS = ("victim", "mask_source", "target_victim")
_DIGITS = 12  # of a hash


def readable(inputs: ReportInputs) -> ReportInputs:
    """The same results with short names of victims, and without the folders of this machine.

    Args:
        inputs: the results of a run; its files keep the full names.
    """
    victims = victim_names(
        {*inputs.rows["victim"], *(str(line["name"]) for line in inputs.victims)} - {None}
    )
    return replace(
        inputs,
        rows=_renamed(inputs.rows, victims),
        replays=None if inputs.replays is None else _renamed(inputs.replays, victims),
        certificates=None
        if inputs.certificates is None
        else _renamed(inputs.certificates, victims),
        alarms=None if inputs.alarms is None else _renamed(inputs.alarms, victims),
        changes=None if inputs.changes is None else _renamed(inputs.changes, victims),
        victims=[{**line, "name": _shown(str(line["name"]), victims)} for line in inputs.victims],
        exemplars=[
            replace(
                one,
                victim=_shown(one.victim, victims),
                mask_source=None if one.mask_source is None else _shown(one.mask_source, victims),
            )
            for one in inputs.exemplars
        ],
        corpus_card=_without(inputs.corpus_card),
        encoder_card=_without(inputs.encoder_card),
        environment=_without(inputs.environment),
        study_text=without_paths(inputs.study_text),
        leakage=[_without(line) for line in inputs.leakage],
    )


def victim_names(names: Iterable[str]) -> dict[str, str]:
    """Names of victims without the key of their folder, where they stay different.

    >>> victim_names(["mlp-speakers-0-1fcb7092", "bilstm"])
    {'bilstm': 'bilstm', 'mlp-speakers-0-1fcb7092': 'mlp-speakers-0'}
    """
    every = sorted(names)
    short = {
        name: without_paths(known["name"] if (known := _KEYED.fullmatch(name)) else name)
        for name in every
    }
    given = list(short.values())
    return {name: one if given.count(one) == 1 else name for name, one in short.items()}


def without_paths(text: str) -> str:
    """A text whose absolute paths are reduced to their last part.

    >>> without_paths('root = "/home/me/corpora/tess"')
    'root = "…/tess"'
    """
    quoted = _QUOTED.sub(lambda found: f"{found[1]}{_last(found[2])}{found[1]}", text)
    return _BARE.sub(lambda found: _last(found[0]), quoted)


def fact(value: Any) -> str:
    """A value of a card in words: `yes` for true, `none` for nothing, and hashes shortened.

    >>> fact({"normalise": True}), fact(None)
    ('normalise: yes', 'none')
    """
    match value:
        case None | "":
            return "none"
        case bool():
            return "yes" if value else "no"
        case Mapping():
            return ", ".join(f"{str(key).replace('_', ' ')}: {fact(one)}"
                             for key, one in value.items()) or "none"  # fmt: skip
        case list() | tuple():
            return ", ".join(map(fact, value)) or "none"
        case str() if re.fullmatch(r"[0-9a-f]{32,}", value):
            return f"{value[:_DIGITS]}…"
    return str(value)


def _renamed(table: pl.DataFrame, victims: Mapping[str, str]) -> pl.DataFrame:
    """A table with the shown names; columns in which nothing changes are kept as they are."""
    import polars as pl

    for column in (*_VICTIMS, "corpus", "encoder", "attack_settings"):
        if column not in table.columns:
            continue
        names = table[column].drop_nulls().unique().to_list()
        shown = {
            name: _shown(name, victims) if column in _VICTIMS else without_paths(name)
            for name in names
        }
        if changed := {name: one for name, one in shown.items() if one != name}:
            table = table.with_columns(pl.col(column).replace(changed))
    return table


def _shown(name: str, victims: Mapping[str, str]) -> str:
    """The shown name of a victim, which on another encoder is `victim@encoder:layer`."""
    alone, at, rest = name.partition("@")
    return victims.get(name, victims.get(alone, alone) + at + without_paths(rest))


def _without(card: Mapping[str, Any]) -> dict[str, Any]:
    return {key: _clean(value) for key, value in card.items()}


def _clean(value: Any) -> Any:
    match value:
        case str() if _WHOLE.fullmatch(value):
            return _last(value)
        case str():
            return without_paths(value)
        case Mapping():
            return _without(value)
        case list() | tuple():
            return [_clean(one) for one in value]
    return value


def _last(path: str) -> str:
    """`…/name` of a path, also of one of Windows."""
    return f"…/{PureWindowsPath(path).name}"
