"""Where a value of a study was written: the option, or the file and the line."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sigma_ser.core.errors import SigmaError
from sigma_ser.core.toml_lines import toml_lines


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
