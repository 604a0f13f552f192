"""Read a study file: includes, overrides, names, and errors that name the key and its line."""

from __future__ import annotations

import difflib
import json
import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from pydantic import ValidationError

from sigma_ser.attacks.factory import make_attack
from sigma_ser.core import registry
from sigma_ser.core.errors import ConfigError
from sigma_ser.core.settings import check_settings, parse_assignment
from sigma_ser.core.toml_lines import toml_lines
from sigma_ser.encoders.encoder import load_encoder
from sigma_ser.explainers.explanation import make_explainer
from sigma_ser.victims.checkpoint import make_head
from sigma_ser.victims.loading import load_victim
from sigma_ser.victims.settings import TrainingSettings

from .config import StudyConfig, VictimSection
from .mask_sources import check_sources
from .tracking import check_tracking


@dataclass(frozen=True)
class LoadedStudy:
    """A study with the text that it was read from, as the run folder keeps it."""

    config: StudyConfig
    text: str


@dataclass(frozen=True)
class _Source:
    """One study file: its path, its text and its own values, without those that it includes."""

    path: Path
    text: str
    values: Mapping[str, Any]


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
    sources: list[_Source] = []
    values = _read(Path(path), sources, ())
    own, *included = sources
    text = own.text + "".join(
        f"\n# included: {source.path.name}\n"
        + "".join(f"# {line}\n" for line in source.text.splitlines())
        for source in included
    )
    return LoadedStudy(_study(values, overrides, sources), _with_overrides(text, overrides))


def parse_study(
    values: Mapping[str, Any], overrides: Sequence[str] = (), *, base: Path | None = None
) -> LoadedStudy:
    """A study from plain values; relative folders in it are relative to `base`, where given."""
    merged: dict[str, Any] = _anchored(_plain(values), base) if base else _plain(values)
    text = json.dumps(values, indent=2, default=str)
    return LoadedStudy(_study(merged, overrides, []), _with_overrides(text, overrides))


def check_names(config: StudyConfig) -> None:
    """Make everything that a study names once, so that a typo costs no work.

    Raises:
        UnknownNameError: if something is not registered.
        SigmaError: if it does not take its settings.
    """
    for corpus in config.corpus or ():
        registry.get("corpus", corpus.name)
        for protocol in corpus.protocol:
            registry.get("protocol", protocol)
    for victim in config.victims:
        _check_victim(victim)
    explainers = {name for section in config.attacks for name in section.explainers}
    if config.consistency.explainer is not None:
        explainers.add(config.consistency.explainer)
    for name in sorted(explainers):
        settings = dict(config.explainers.get(name, {}))
        make_explainer(str(settings.pop("name", name)), **settings)
    for section in config.attacks:
        make_attack(section.name, **section.settings)
    _check_keywords(load_encoder, "encoder", [section.settings for section in config.encoder or ()])
    check_sources(config)
    check_tracking(config)


def _with_overrides(text: str, overrides: Sequence[str]) -> str:
    return text + "".join(f"\n# --set {override}" for override in overrides)


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
        raise ConfigError(
            f"{path} is not UTF-8 text ({fault.reason}); save the file in UTF-8"
        ) from None
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
                f"{_where(['include'], [source], ())}: {name} includes itself, directly "
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
            problem = f"there is no key {key!r}{_near(path)}"
        case "missing":
            problem = f"the key {key!r} is missing"
        case "value_error":
            problem = f"{key}: {first['ctx']['error']}" if key else str(first["ctx"]["error"])
        case _:
            problem = f"{key}: {first['msg'][:1].lower()}{first['msg'][1:]}, got {first['input']!r}"
    return f"{_where(path, sources, overrides)}: {problem}"


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
        lines = toml_lines(source.text)
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


def _check_victim(victim: VictimSection) -> None:
    if victim.head is None:
        _check_keywords(load_victim, "victims", [victim.settings])
        return
    make_head(victim.head, 2, 2, victim.head_settings)
    TrainingSettings.of(victim.settings)
    if victim.adversarial is not None:
        make_attack(victim.adversarial.attack, **victim.adversarial.settings)


def _check_keywords(
    function: Callable[..., Any], place: str, given: Sequence[Mapping[str, Any]]
) -> None:
    """Check keywords of a function; its subject and layer are keys of the study's own."""
    for settings in given:
        supplied = ("name_or_path", "source", "layer")
        check_settings(f"[{place}]", function, settings, ConfigError, supplied)
