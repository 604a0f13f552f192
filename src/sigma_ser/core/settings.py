"""Settings given by name: known ones, and numbers where numbers are asked for."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from numbers import Integral, Real
from typing import Any

from .errors import SigmaError

# Annotations may be text; a member's own checks say what lies in range.
# Those of numpy count as numbers, too.
_NUMBERS: dict[str, type] = {"int": Integral, "float": Real}


def check_settings(
    what: str, make: Callable[..., Any], settings: Mapping[str, Any], error: type[SigmaError]
) -> None:
    """Raise unless `make` takes these settings.

    Args:
        what: what is made, for the text.
        make: the class or function; its signature tells the settings and which are numbers.
        settings: what the user gave.
        error: what is raised.

    >>> import numpy as np
    >>> from sigma_ser.core.errors import AttackError
    >>> def make(*, steps: int = 3): ...
    >>> check_settings("the attack 'mine'", make, {"steps": np.int64(4)}, AttackError)
    >>> check_settings("the attack 'mine'", make, {"step": 4}, AttackError)
    Traceback (most recent call last):
    sigma_ser.core.errors.AttackError: the attack 'mine' has no setting 'step'; it knows steps
    """
    parameters = inspect.signature(make).parameters
    for setting, value in settings.items():
        if setting not in parameters:
            raise error(f"{what} has no setting {setting!r}; it knows {', '.join(parameters)}")
        annotation = parameters[setting].annotation
        named = annotation if isinstance(annotation, str) else inspect.formatannotation(annotation)
        kind = _NUMBERS.get(named.removesuffix(" | None"))
        if kind is None or (value is None and named.endswith(" | None")):
            continue
        if isinstance(value, bool) or not isinstance(value, kind):
            whole = "a whole number" if kind is Integral else "a number"
            raise error(f"{setting} of {what} must be {whole}, got {value!r}")
