"""Read a study file: what it includes, `--set`, and errors that name the key and its line."""

from __future__ import annotations

import difflib
import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from pydantic import ValidationError

from sigma_ser.core.errors import ConfigError

from .config import StudyConfig


@dataclass(frozen=True)
class _Source:
    """One study file: where it lies, its text and what it says itself."""

    path: Path
    text: str
    values: Mapping[str, Any]


def load_study(path: Path | str, overrides: Sequence[str] = ()) -> StudyConfig:
    """Read a study file.

    `include = "other.toml"` (or a list) takes over the values of other files: a table is merged
    key by key, anything else is replaced by the including file, and of several the later one wins.

    Args:
        path: the TOML file; relative folders and includes in it are relative to it.
        overrides: `a.b=value` each, value as TOML (or as plain text where that fails).

    Raises:
        ConfigError: names the file, the key and its line.
    """
    sources: list[_Source] = []
    values = _read(Path(path), sources, ())
    return _study(values, overrides, sources)


def read_texts(path: Path | str) -> str:
    """The text of a study file and, after it, of those that it includes."""
    sources: list[_Source] = []
    _read(Path(path), sources, ())
    own, *included = sources
    return own.text + "".join(
        f"\n# included: {source.path.name}\n"
        + "".join(f"# {line}\n" for line in source.text.splitlines())
        for source in included
    )


def parse_study(
    values: Mapping[str, Any], overrides: Sequence[str] = (), *, base: Path | None = None
) -> StudyConfig:
    """A study from plain values; relative folders in it are relative to `base`, where given."""
    merged: dict[str, Any] = _anchored(_plain(values), base) if base else _plain(values)
    return _study(merged, overrides, [])


def _study(
    values: dict[str, Any], overrides: Sequence[str], sources: Sequence[_Source]
) -> StudyConfig:
    for override in overrides:
        _override(values, override)
    # A folder given on the command line is relative to the file, as one in the file is.
    if sources:
        values = _anchored(values, sources[0].path.parent)
    try:
        return StudyConfig.model_validate(values)
    except ValidationError as fault:
        raise ConfigError(_sentence(fault, values, sources, overrides)) from None


def _read(path: Path, sources: list[_Source], within: tuple[Path, ...]) -> dict[str, Any]:
    """The values of a file over those of what it includes; `sources` gets the nearest first."""
    try:
        text = path.read_text("utf-8")
    except OSError as fault:
        what = "the study file" if not within else f"what {within[-1]} includes,"
        raise ConfigError(f"cannot read {what} {path}: {fault.strerror}") from fault
    except UnicodeDecodeError as fault:
        raise ConfigError(f"{path} is no text in UTF-8 ({fault.reason}); save it as such") from None
    try:
        own = tomllib.loads(text)
    except tomllib.TOMLDecodeError as fault:
        raise ConfigError(f"{path} is not valid TOML: {fault}") from fault
    included = own.pop("include", [])
    included = [included] if isinstance(included, str) else included
    source = _Source(path, text, own)
    if not isinstance(included, list) or not all(isinstance(name, str) for name in included):
        raise ConfigError(
            f"{_where(['include'], [source], ())}: include takes a file name or a list of them, "
            f"got {included!r}"
        )
    sources.append(source)
    values: dict[str, Any] = {}
    for name in included:
        other = path.parent / name
        if other.resolve() in {one.resolve() for one in (*within, path)}:
            raise ConfigError(
                f"{_where(['include'], [source], ())}: {name} includes itself in the end; "
                "take one include out"
            )
        values = _merged(values, _read(other, sources, (*within, path)))
    return _merged(values, _anchored(_plain(own), path.parent))


def _merged(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    both = dict(below)
    for key, value in above.items():
        old = both.get(key)
        both[key] = (
            _merged(old, value)
            if isinstance(old, Mapping) and isinstance(value, Mapping)
            else value
        )
    return both


def _anchored(values: dict[str, Any], base: Path) -> dict[str, Any]:
    """The same with relative folders of corpora, encoders and victims made absolute."""
    for corpus in _tables(values.get("corpus")):
        root = corpus.get("root")
        if isinstance(root, str) and not Path(root).is_absolute():
            corpus["root"] = str((base / root).resolve())
    # A name is a folder only where there is one.
    for place, key in ((values.get("encoder"), "name"), (values.get("victims"), "load")):
        for table in _tables(place):
            name = table.get(key)
            if isinstance(name, str) and not Path(name).is_absolute() and (base / name).is_dir():
                table[key] = str((base / name).resolve())
    return values


def _tables(value: Any) -> list[dict[str, Any]]:
    return [one for one in (value if isinstance(value, list) else [value]) if isinstance(one, dict)]


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value


def _override(values: dict[str, Any], override: str) -> None:
    """Set one dotted key; a number steps into a list (`attacks.0.steps=5`)."""
    key, equals, text = override.partition("=")
    if not equals or not key:
        raise ConfigError(
            f"--set takes key=value, e.g. --set budgets.epsilon=[0.5], got {override!r}"
        )
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        value = text
    *parents, last = key.split(".")
    place: Any = values
    try:
        for part in parents:
            place = place[int(part)] if isinstance(place, list) else place.setdefault(part, {})
        place[int(last) if isinstance(place, list) else last] = value
    except (IndexError, ValueError, TypeError, AttributeError) as fault:
        raise ConfigError(f"--set {key}: there is no such place in the study") from fault


def _sentence(
    fault: ValidationError,
    values: Mapping[str, Any],
    sources: Sequence[_Source],
    overrides: Sequence[str],
) -> str:
    """The first fault as one sentence that names the key, its line and near matches."""
    # A misspelt key is also a missing one: the misspelling is what the user can see.
    first = min(fault.errors(), key=lambda error: error["type"] != "extra_forbidden")
    path = _written_path(first["loc"], values)
    key = ".".join(path)
    match first["type"]:
        case "extra_forbidden":
            said = f"there is no key {key!r}{_near(path)}"
        case "missing":
            said = f"the key {key!r} is missing"
        case "value_error":
            said = f"{key}: {first['ctx']['error']}"
        case _:
            said = f"{key}: {first['msg'][:1].lower()}{first['msg'][1:]}, got {first['input']!r}"
    return f"{_where(path, sources, overrides)}: {said}"


def _where(path: Sequence[str], sources: Sequence[_Source], overrides: Sequence[str]) -> str:
    """The option, or the file and line, that said what lies at a place of the study."""
    for override in overrides:
        given = override.partition("=")[0].split(".")
        if list(path[: len(given)]) == given:
            return f"--set {override}"
    if not sources:
        return "study"
    # The longest part of the place that a file has; of equals the nearest file decides.
    best, depth = (sources[0], 0), 0
    for source in sources:
        lines = _lines(source.text)
        for known in range(len(path), depth, -1):
            if tuple(path[:known]) in lines:
                best, depth = (source, lines[tuple(path[:known])]), known
                break
    source, line = best
    return f"{source.path}, line {line}" if line else str(source.path)


def _written_path(loc: Sequence[int | str], values: Mapping[str, Any]) -> list[str]:
    """A place as the user wrote it: without the number where one value stands for a list."""
    path: list[str] = []
    place: Any = values
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


def _near(path: Sequence[str]) -> str:
    model: Any = StudyConfig
    for part in path[:-1]:
        field = model.model_fields.get(part) if hasattr(model, "model_fields") else None
        if field is not None:
            candidates = [field.annotation, *get_args(field.annotation)]
            candidates += [inner for one in candidates for inner in get_args(one)]
            model = next((c for c in candidates if hasattr(c, "model_fields")), None)
    if not hasattr(model, "model_fields"):
        return ""
    known = [*model.model_fields, *(["include"] if model is StudyConfig else [])]
    near = difflib.get_close_matches(path[-1], known, n=3, cutoff=0.5)
    return f"; did you mean {' or '.join(near)}?" if near else f"; known: {', '.join(known)}"


def _lines(text: str) -> dict[tuple[str, ...], int]:
    """The line of each table and key of a TOML file, which `tomllib` does not tell."""
    lines: dict[tuple[str, ...], int] = {}
    table: tuple[str, ...] = ()
    counts: dict[tuple[str, ...], int] = {}
    for number, line in enumerate(text.splitlines(), 1):
        header = re.match(r"^\s*(\[\[?)([^\]]+)\]", line)
        entry = re.match(r"^\s*([A-Za-z0-9_.\"'-]+)\s*=", line)
        if header:
            table = ()
            *parents, last = _names(header[2])
            for name in parents:
                table = (*table, name)
                # Below an array of tables, a header means the latest of them.
                table = (*table, str(counts[table] - 1)) if table in counts else table
            table = (*table, last)
            if header[1] == "[[":
                counts[table] = counts.get(table, 0) + 1
                lines.setdefault(table, number)
                table = (*table, str(counts[table] - 1))
            lines.setdefault(table, number)
        elif entry:
            names = _names(entry[1])
            for depth in range(1, len(names) + 1):
                lines.setdefault((*table, *names[:depth]), number)
    return lines


def _names(dotted: str) -> list[str]:
    return [name.strip().strip("\"'") for name in dotted.split(".")]
