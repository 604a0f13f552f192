"""Read the criteria of an audit from their file."""

from __future__ import annotations

import tomllib
from pathlib import Path

from pydantic import ValidationError

from sigma_ser.core.errors import ConfigError
from sigma_ser.core.places import Places, Source, first_fault

from .declared import Criteria


def load_criteria(path: Path) -> Criteria:
    """Read the criteria of an audit.

    Args:
        path: a TOML file; `sigma-ser init --criteria` prints one with comments.

    Raises:
        ConfigError: names the file, the key and its line.
    """
    try:
        text = path.read_text("utf-8")
    except OSError as fault:
        raise ConfigError(f"cannot read the criteria file {path}: {fault.strerror}") from fault
    except UnicodeDecodeError as fault:
        raise ConfigError(
            f"{path} is not UTF-8 text ({fault.reason}); save the file in UTF-8"
        ) from None
    try:
        values = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as fault:
        raise ConfigError(f"{path} is not valid TOML: {fault}") from fault
    try:
        return Criteria.model_validate(values)
    except ValidationError as fault:
        places = Places(values, (Source(path, text, values),))
        raise ConfigError(first_fault(fault, places, Criteria)) from None
