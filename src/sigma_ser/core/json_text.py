"""JSON from files that others may have written."""

from __future__ import annotations

import json
from typing import Any

# Deep enough for every file that this package or `transformers` writes.
_LEVELS = 100


def parse_json(text: str | bytes) -> Any:
    """Parse JSON of limited depth.

    Whatever it returns can be copied, compared and written again without reaching the recursion
    limit of Python.

    Args:
        text: JSON, as text or as UTF-8 bytes.

    Raises:
        ValueError: if the text is not JSON, or is nested more than 100 levels deep.

    >>> parse_json('{"a": [1]}')
    {'a': [1]}
    """
    try:
        value = json.loads(text)
    except RecursionError:
        raise _too_deep() from None
    inner, levels = [value], 0
    while inner := [one for outer in inner for one in _parts(outer)]:
        levels += 1
        if levels > _LEVELS:
            raise _too_deep()
    return value


def _parts(value: Any) -> list[Any]:
    if isinstance(value, dict):
        return list(value.values())
    return value if isinstance(value, list) else []


def _too_deep() -> ValueError:
    return ValueError(f"its values are nested more than {_LEVELS} levels deep")
