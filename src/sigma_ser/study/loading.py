"""Read a study file: includes, overrides, names, and errors that name the key and its line."""

from __future__ import annotations

import contextlib
import json
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from sigma_ser.core.errors import ConfigError
from sigma_ser.core.places import Places, Source, first_fault
from sigma_ser.core.settings import parse_assignment
from sigma_ser.encoders.source import EMBEDDED

from .config import StudyConfig

# Length of the utterance on which a head is tried, that of a few seconds of speech.
_FRAMES = 200


# Keys that take one value for a list of one.
_ONE_OR_MORE = {
    "corpus",
    "encoder",
    "tracking",
    "protocol",
    "layer",
    "surface",
    "snr",
    "waveform_sparsity",
}


@dataclass(frozen=True)
class LoadedStudy:
    """A study with the text that it was read from, as the run folder keeps it."""

    config: StudyConfig
    text: str
    places: Places


def load_study(path: Path | str, overrides: Sequence[str] = ()) -> LoadedStudy:
    """Read a study file.

    `include = "other.toml"` (or a list) takes over the values of other files: tables are merged
    key by key, other values are replaced by the including file, and of several files the later one
    has precedence.

    Args:
        path: the TOML file; relative folders and includes in it are relative to it.
        overrides: `a.b=value` each, value as TOML (or as plain text where that fails).

    Raises:
        ConfigError: names the file, the key and its line.
    """
    with _bounded(str(path)):
        return _load(Path(path), overrides)


def _load(path: Path, overrides: Sequence[str]) -> LoadedStudy:
    sources: list[Source] = []
    values = _read(path, sources, ())
    own, *included = sources
    text = own.text + "".join(
        f"\n# included: {source.path.name}\n"
        + "".join(f"# {line}\n" for line in source.text.splitlines())
        for source in included
    )
    return _study(values, Places(values, sources, overrides), text)


def parse_study(
    values: Mapping[str, Any], overrides: Sequence[str] = (), *, base: Path | None = None
) -> LoadedStudy:
    """A study from plain values; relative folders in it are relative to `base`, where given."""
    with _bounded("the study"):
        merged: dict[str, Any] = _anchored(_plain(values), base) if base else _plain(values)
        text = json.dumps(values, indent=2, default=str)
        return _study(merged, Places(merged, (), overrides), text)


@contextlib.contextmanager
def _bounded(what: str) -> Iterator[None]:
    try:
        yield
    except RecursionError:
        raise ConfigError(f"{what} is nested too deeply to be read; simplify it") from None


def _study(values: dict[str, Any], places: Places, text: str) -> LoadedStudy:
    """Validate values; the options of `places` are applied to them in place."""
    for override in places.overrides:
        _override(values, override)
    # A folder given on the command line is relative to the file, as one in the file is.
    if places.sources:
        _anchored(values, places.sources[0].path.parent)
    text += "".join(f"\n# --set {override}" for override in places.overrides)
    try:
        return LoadedStudy(StudyConfig.model_validate(values), text, places)
    except ValidationError as fault:
        raise ConfigError(first_fault(fault, places, StudyConfig, further="include")) from None


def _read(path: Path, sources: list[Source], within: tuple[Path, ...]) -> dict[str, Any]:
    """The values of a file over those of what it includes; `sources` gets the nearest first."""
    try:
        text = path.read_text("utf-8")
    except OSError as fault:
        what = f"{path}, which {within[-1]} includes" if within else f"the study file {path}"
        raise ConfigError(f"cannot read {what}: {fault.strerror}") from fault
    except UnicodeDecodeError as fault:
        raise ConfigError(
            f"{path} is not UTF-8 text ({fault.reason}); save the file in UTF-8"
        ) from None
    try:
        own = tomllib.loads(text)
    except tomllib.TOMLDecodeError as fault:
        raise ConfigError(f"{path} is not valid TOML: {fault}") from fault
    included = own.pop("include", [])
    included = [included] if isinstance(included, str) else included
    source = Source(path, text, own)
    if not isinstance(included, list) or not all(isinstance(name, str) for name in included):
        raise ConfigError(
            f"{Places(sources=[source]).where(['include'])}: include takes a file name or a list "
            f"of them, got {included!r}"
        )
    sources.append(source)
    values: dict[str, Any] = {}
    for name in included:
        other = path.parent / name
        if other.resolve() in {one.resolve() for one in (*within, path)}:
            raise ConfigError(
                f"{Places(sources=[source]).where(['include'])}: {name} includes itself, directly "
                "or through other files; remove one of these includes"
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
    for features in _tables(values.get("features")):
        store = features.get("store")
        if isinstance(store, str) and not Path(store).is_absolute():
            features["store"] = str((base / store).resolve())
    # A name is a folder only where there is one; that of an embedded encoder never is.
    for place, key in ((values.get("encoder"), "name"), (values.get("victims"), "load")):
        for table in _tables(place):
            name = table.get(key)
            if not isinstance(name, str) or name in EMBEDDED or Path(name).is_absolute():
                continue
            if (base / name).is_dir():
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
    try:
        key, value = parse_assignment(override)
    except ConfigError as fault:
        raise ConfigError(f"--set: {fault}") from None
    *parents, last = key.split(".")
    place: Any = values
    try:
        for part in parents:
            place = place[int(part)] if isinstance(place, list) else place.setdefault(part, {})
        place[int(last) if isinstance(place, list) else last] = value
    except (IndexError, ValueError, TypeError, AttributeError) as fault:
        raise ConfigError(f"--set {key}: the study has no such key or list entry") from fault


def study_schema() -> dict[str, Any]:
    """The JSON schema of a study file, for editors that complete and check TOML."""
    schema = StudyConfig.model_json_schema(mode="validation")
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    schema["properties"]["include"] = {
        "anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}],
        "description": "study files whose values this one takes over and changes",
    }
    places = [schema, *schema["$defs"].values()]
    for name, one in ((n, p) for place in places for n, p in place["properties"].items()):
        # These take one value for a list of one, and some of them null.
        lists = [place for place in (one, *one.get("anyOf", ())) if place.get("type") == "array"]
        if name in _ONE_OR_MORE and lists:
            (place,) = lists
            array = {key: place.pop(key) for key in ("type", "items", "minItems") if key in place}
            others = [other for other in one.get("anyOf", ()) if other]
            one["anyOf"] = [array["items"], array, *others]
    return schema
