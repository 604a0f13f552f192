"""The settings of an attack in words."""

from __future__ import annotations

import ast
from collections.abc import Sequence
from typing import Any


def setting_words(settings: str, only: Sequence[str] | None = None) -> str:
    """The settings of an attack in words: `steps 10, losses cross-entropy and margin`.

    Args:
        settings: the column `attack_settings`.
        only: names of the settings that are wanted; `None`: all.

    >>> setting_words("DualAveraging(steps=10, losses=('margin', 'logit'), all_targets=False)")
    'steps 10, losses margin and logit, all targets off'
    """
    return ", ".join(
        _words(name, value)
        for name, value in _arguments(settings).items()
        if only is None or name in only
    )


def with_settings(name: str, settings: str | None, every: Sequence[str]) -> str:
    """The name of an attack, with the settings in which attacks of this name differ, in brackets.

    Args:
        name: of the attack.
        settings: its column `attack_settings`.
        every: the different settings of all attacks of this name.

    >>> with_settings("pgd", "PGD(steps=10)", ["PGD(steps=10)", "PGD(steps=20)"])
    'pgd (steps 10)'
    """
    if len(every) < 2 or settings is None:
        return name
    words = setting_words(settings, differing_settings(every))
    return f"{name} ({words})" if words else settings


def differing_settings(settings: Sequence[str]) -> list[str]:
    """Names of the settings in which some attacks differ."""
    every = [_arguments(one) for one in settings]
    names = dict.fromkeys(name for one in every for name in one)
    return [name for name in names if len({repr(one.get(name)) for one in every}) > 1]


def _arguments(settings: str) -> dict[str, Any]:
    """The keyword arguments of a call as text; empty where it is no call."""
    try:
        call = ast.parse(settings, mode="eval").body
        return {
            str(one.arg): ast.literal_eval(one.value)
            for one in (call.keywords if isinstance(call, ast.Call) else ())
        }
    except (SyntaxError, ValueError):
        return {}


def _words(name: str, value: Any) -> str:
    name = name.replace("_", " ")
    if isinstance(value, bool):
        return f"{name} {'on' if value else 'off'}"
    if isinstance(value, list | tuple):
        return f"{name} {' and '.join(map(str, value))}"
    number = isinstance(value, float) and value.is_integer()
    return f"{name} {value:g}" if number else f"{name} {value}"
