"""Attacks by name."""

from __future__ import annotations

import inspect
from typing import Any

from sigma_ser.core import registry
from sigma_ser.core.contracts import Attack
from sigma_ser.core.errors import AttackError


def attack(name: str, **settings: Any) -> Attack:
    """Make an attack.

    Args:
        name: one of `registry.names("attack")`, or `library:name` of another library (foolbox,
            torchattacks, adv-lib, art).
        settings: its hyperparameters; what is not given keeps the default of its paper.

    Raises:
        UnknownNameError: if no attack has this name; the text lists near matches.
        AttackError: if a setting is unknown or out of its range.

    >>> from sigma_ser.attacks.factory import attack
    >>> attack("random", draws=3)
    RandomCorner(draws=3)
    """
    if ":" in name:
        from .external.libraries import external_attack

        return external_attack(name, **settings)
    make = registry.get("attack", name)
    parameters = inspect.signature(make).parameters
    unknown = [setting for setting in settings if setting not in parameters]
    if unknown:
        raise AttackError(
            f"the attack {name!r} has no setting {unknown[0]!r}; it knows {', '.join(parameters)}"
        )
    for setting, value in settings.items():
        # Annotations are text here; a member's own checks say what lies in range.
        kind = _NUMBERS.get(str(parameters[setting].annotation))
        if kind is not None and (isinstance(value, bool) or not isinstance(value, kind)):
            whole = "a whole number" if kind is int else "a number"
            raise AttackError(f"{setting} of the attack {name!r} must be {whole}, got {value!r}")
    made: Attack = make(**settings)
    return made


_NUMBERS: dict[str, type | tuple[type, ...]] = {"int": int, "float": (int, float)}
