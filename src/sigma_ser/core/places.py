"""Where a value of a TOML file was written: the option, or the file and the line."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from .errors import SigmaError
from .toml_lines import toml_lines

if TYPE_CHECKING:
    from pydantic import ValidationError


@dataclass(frozen=True)
class Source:
    """One study file: its path, its text and its own values, without those that it includes."""

    path: Path
    text: str
    values: Mapping[str, Any]


@dataclass(frozen=True)
class Places:
    """The values of a study with the files and options that they were read from.

    Args:
        values: the values of the study, before validation.
        sources: the study file and the files that it includes, the nearest first; none for a
            study that is given as values.
        overrides: the `--set` options.
    """

    values: Mapping[str, Any] = field(default_factory=dict)
    sources: Sequence[Source] = ()
    overrides: Sequence[str] = ()

    def path(self, loc: Sequence[int | str]) -> list[str]:
        """A place as the user wrote it: without the number where one value stands for a list."""
        path: list[str] = []
        place: Any = self.values
        for part in loc:
            if isinstance(part, int) and not isinstance(place, list):
                continue
            try:
                place = place[part]
            except (KeyError, IndexError, TypeError):
                place = None
            else:
                path.append(str(part))
                continue
            # Past what was written lie a missing key and the names of a union's members.
            if isinstance(part, str) and part.isidentifier() and part not in {"int", "str"}:
                path.append(part)
        return path

    def where(self, path: Sequence[str]) -> str:
        """The option, or the file and line, that said what lies at a place of the study."""
        for override in self.overrides:
            given = override.partition("=")[0].split(".")
            if list(path[: len(given)]) == given:
                return f"--set {override}"
        if not self.sources:
            return "study"
        # The longest part of the place that a file has; of equals the nearest file decides.
        best, depth = (self.sources[0], 0), 0
        for source in self.sources:
            lines = toml_lines(source.text)
            for known in range(len(path), depth, -1):
                if tuple(path[:known]) in lines:
                    best, depth = (source, lines[tuple(path[:known])]), known
                    break
        source, line = best
        return f"{source.path}, line {line}" if line else str(source.path)

    @contextmanager
    def errors_at(
        self, *loc: int | str, keys: Iterable[str] = (), name: str | None = None
    ) -> Iterator[None]:
        """Add the place to errors that are raised inside.

        Args:
            loc: the place, such as `("attacks", 0)`.
            keys: keys at that place; the line is that of the first one that the message mentions.
            name: the key whose line is given if the message mentions none of `keys`.

        Raises:
            SigmaError: the same error with the place in front of its message.
        """
        try:
            yield
        except SigmaError as fault:
            if not self.sources and not self.overrides:
                raise
            mentioned = (key for key in keys if re.search(rf"\b{re.escape(key)}\b", str(fault)))
            key = next(mentioned, name)
            place = self.where([*self.path(loc), *([] if key is None else [key])])
            raise type(fault)(f"{place}: {fault}") from fault


# Requirements by type of the fault, in place of the texts of pydantic; `limit` is its bound.
_REQUIREMENTS = {
    "less_than_equal": "at most {limit}",
    "less_than": "below {limit}",
    "greater_than_equal": "at least {limit}",
    "greater_than": "above {limit}",
    "literal_error": "{limit}",
    "too_short": "a list with at least {limit} entry",
    **dict.fromkeys(("float_parsing", "float_type"), "a number"),
    **dict.fromkeys(("int_parsing", "int_type", "int_from_float"), "a whole number"),
    **dict.fromkeys(("bool_parsing", "bool_type"), "true or false"),
    "string_type": "text in quotes",
    "list_type": "a list",
    **dict.fromkeys(("dict_type", "model_type"), "a table of keys"),
}
_LIMITS = ("le", "lt", "ge", "gt", "expected", "min_length")


def first_fault(fault: ValidationError, places: Places, model: Any, *, further: str = "") -> str:
    """The first fault of a validation as one sentence with the key, its line and near matches.

    Args:
        fault: the error of pydantic.
        places: where the values were written.
        model: the pydantic model of the values.
        further: a key of the file that is not a field of the model; empty if there is none.
    """
    # A misspelt key is also a missing one: the misspelling is what the user can see.
    faults = sorted(fault.errors(), key=lambda error: error["type"] != "extra_forbidden")
    first, path = faults[0], places.path(faults[0]["loc"])
    key = ".".join(path)
    match first["type"]:
        case "extra_forbidden":
            problem = f"there is no key {key!r}{_near(path, model, further)}"
        case "missing":
            problem = f"the key {key!r} is missing"
        case "value_error":
            problem = f"{key}: {first['ctx']['error']}" if key else str(first["ctx"]["error"])
        case _:
            # A key that accepts several types has one fault for each.
            same = [one for one in faults if places.path(one["loc"]) == path]
            needed = " or ".join(dict.fromkeys(map(_requirement, same)))
            problem = f"{key} must be {needed}, got {first['input']!r}"
    return f"{places.where(path)}: {problem}"


def _requirement(error: Mapping[str, Any]) -> str:
    context = error.get("ctx", {})
    limit = next((context[name] for name in _LIMITS if name in context), "")
    if isinstance(limit, float):
        limit = f"{limit:g}"
    described = _REQUIREMENTS.get(error["type"])
    return f"valid ({error['msg']})" if described is None else described.format(limit=limit)


def _near(path: Sequence[str], model: Any, further: str) -> str:
    for part in path[:-1]:
        field = model.model_fields.get(part) if hasattr(model, "model_fields") else None
        if field is not None:
            candidates = [field.annotation, *get_args(field.annotation)]
            candidates += [inner for one in candidates for inner in get_args(one)]
            model = next((c for c in candidates if hasattr(c, "model_fields")), None)
    if not hasattr(model, "model_fields"):
        return ""
    known = [*model.model_fields, *([further] if further and len(path) == 1 else [])]
    near = difflib.get_close_matches(path[-1], known, n=3, cutoff=0.5)
    return f"; did you mean {' or '.join(near)}?" if near else f"; known: {', '.join(known)}"
