"""Attacks by name."""

from __future__ import annotations

from typing import Any

from sigma_ser.core import registry
from sigma_ser.core.contracts import Attack
from sigma_ser.core.errors import AttackError
from sigma_ser.core.settings import check_settings


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
    if not isinstance(name, str):
        raise AttackError(
            f"an attack is made by its name, got a {type(name).__name__}; "
            "one that is made already is used as it is"
        )
    if ":" in name:
        from .external.libraries import external_attack

        return external_attack(name, **settings)
    make = registry.get("attack", name)
    check_settings(f"the attack {name!r}", make, settings, AttackError)
    made: Attack = make(**settings)
    return made
