"""Settings of registered members: how they are written as text, and how they are checked."""

from __future__ import annotations

import difflib
import inspect
import math
import tomllib
from collections.abc import Callable, Iterable, Iterator, Mapping
from numbers import Integral, Real
from typing import Any

from .errors import ConfigError, SigmaError

# Rows, seeds and tensors hold whole numbers in 64 bits.
_INTEGERS = 2**63
# Annotations may be text; the range of a value is checked by the member itself.
# Numbers of numpy count as numbers, too.
_TYPES: dict[str, tuple[type, str]] = {
    "bool": (bool, "true or false"),
    "float": (Real, "a number"),
    "int": (Integral, "a whole number"),
}


def check_settings(
    what: str,
    make: Callable[..., Any],
    settings: Mapping[str, Any],
    error: type[SigmaError],
    supplied: Iterable[str] = (),
) -> None:
    """Raise unless a class or function accepts these settings.

    Args:
        what: name of the thing that is made, used in the error message.
        make: the class or function; its signature gives the known settings, and its annotations
            say which of them are numbers or truth values.
        settings: the values that the user gave.
        error: type of the error that is raised.
        supplied: parameters that the caller supplies; they are no settings.

    Raises:
        SigmaError: of type `error`, if a setting is unknown, has the wrong type, or is missing.

    >>> import numpy as np
    >>> from sigma_ser.core.errors import AttackError
    >>> def make(*, steps: int = 3): ...
    >>> check_settings("the attack", make, {"steps": np.int64(4)}, AttackError)
    >>> check_settings("the attack", make, {"count": 4}, AttackError)
    Traceback (most recent call last):
    sigma_ser.core.errors.AttackError: the attack has no setting 'count'; known settings: steps
    """
    parameters = inspect.signature(make).parameters
    known = {
        name: parameter
        for name, parameter in parameters.items()
        if name not in set(supplied) and parameter.kind in _NAMED
    }
    is_open = any(one.kind is one.VAR_KEYWORD for one in parameters.values())
    for setting, value in settings.items():
        if setting not in known:
            if is_open and setting not in parameters:
                continue
            raise error(f"{what} has no setting {setting!r}; {_suggestion(setting, known)}")
        _check_type(setting, value, known[setting], what, error)
    for name, parameter in known.items():
        if parameter.default is parameter.empty and name not in settings:
            raise error(f"{what} needs the setting {name!r}")


_NAMED = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)


def _suggestion(setting: str, known: Iterable[str]) -> str:
    listed = ", ".join(known)
    near = difflib.get_close_matches(setting, list(known), n=1)
    hint = f"did you mean {near[0]}? " if near else ""
    return f"{hint}known settings: {listed}" if listed else "it has no settings"


def _check_type(
    setting: str, value: Any, parameter: inspect.Parameter, what: str, error: type[SigmaError]
) -> None:
    annotation = parameter.annotation
    named = annotation if isinstance(annotation, str) else inspect.formatannotation(annotation)
    expected = _TYPES.get(named.removesuffix(" | None"))
    if expected is None or (value is None and named.endswith(" | None")):
        return
    kind, described = expected
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        raise error(f"{setting} of {what} must be {described}, got {value!r}")
    if isinstance(value, Integral) and not -_INTEGERS <= int(value) < _INTEGERS:
        raise error(f"{setting} of {what} must fit 64 bits, got {value!r}")
    if isinstance(value, Real) and not math.isfinite(value):
        raise error(f"{setting} of {what} must be finite, got {value!r}")


def parse_assignment(text: str) -> tuple[str, Any]:
    """Parse `key=value`: a dotted key, and a value in TOML or else plain text.

    Raises:
        ConfigError: if there is no key or no equals sign, or the value is nested too deeply.

    >>> parse_assignment("budgets.epsilon=[0.5, 1]"), parse_assignment("name=first run")
    (('budgets.epsilon', [0.5, 1]), ('name', 'first run'))
    """
    key, equals, value = (part.strip() for part in text.partition("="))
    if not key or not equals:
        raise ConfigError(f"expected key=value, e.g. budgets.epsilon=[0.5], got {text!r}")
    try:
        parsed = tomllib.loads(f"value = {value}")
    except tomllib.TOMLDecodeError:
        return key, value
    except RecursionError:
        raise ConfigError(f"the value of {key} is nested too deeply; simplify it") from None
    return key, parsed["value"] if len(parsed) == 1 else value


def parse_call(text: str) -> tuple[str, dict[str, Any]]:
    """Parse `name` or `name(setting=value, ...)`; values are written as for `parse_assignment`.

    Raises:
        ConfigError: if the text has another form.

    >>> parse_call("dual-averaging(steps=50, losses=['margin'])")
    ('dual-averaging', {'steps': 50, 'losses': ['margin']})
    >>> parse_call("pgd")
    ('pgd', {})
    """
    name, bracket, inside = text.strip().partition("(")
    if not bracket:
        return name, {}
    settings: dict[str, Any] = {}
    try:
        if not name or not inside.endswith(")"):
            raise ConfigError("the closing bracket is missing" if name else "the name is missing")
        for part in _split_at_commas(inside[:-1]):
            key, value = parse_assignment(part)
            if key in settings:
                raise ConfigError(f"{key} is given twice")
            settings[key] = value
    except ConfigError as fault:
        raise ConfigError(
            f'cannot read {text!r} ({fault}); write it as "name(setting=value, ...)"'
        ) from fault
    return name.strip(), settings


def _split_at_commas(text: str) -> Iterator[str]:
    """The parts between commas that lie outside brackets and quotes."""
    start, depth, quote = 0, 0, ""
    for place, character in enumerate(text):
        if quote:
            quote = "" if character == quote else quote
        elif character in "\"'":
            quote = character
        elif character in "([{":
            depth += 1
        elif character in ")]}":
            depth -= 1
        elif character == "," and depth == 0:
            yield text[start:place]
            start = place + 1
    if text[start:].strip():
        yield text[start:]
