"""A study as one TOML file: typed, with errors that name the key and its line."""

from __future__ import annotations

import difflib
import re
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from sigma_ser.core.budget import Granularity
from sigma_ser.core.errors import ConfigError
from sigma_ser.core.files import safe_name

Positive = Annotated[float, Field(gt=0)]
Share = Annotated[float, Field(gt=0, le=1)]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class _OpenSection(BaseModel):
    """A section that hands what it does not know to the thing it names."""

    model_config = ConfigDict(extra="allow", frozen=True)

    @property
    def settings(self) -> dict[str, Any]:
        """The keys beyond those of the section: arguments of what it names."""
        return dict(self.model_extra or {})


class CorpusSection(_OpenSection):
    """Which recordings, and how they are split. Other keys go to the corpus reader."""

    name: str
    root: Path | None = Field(None, description="folder of the corpus; relative to the study file")
    protocol: str
    protocol_settings: dict[str, Any] = {}
    seed: int = Field(0, description="of the split, where the protocol draws one")
    folds: list[int] | None = Field(None, description="numbers of the folds to run; all by default")


class EncoderSection(_OpenSection):
    """Which features. Other keys go to `load_encoder` (revision, context ...)."""

    name: str = Field(description="`demo`, a Hugging Face id, or a folder")
    layer: int | Literal["mean", "all"] = -1


class VictimSection(_OpenSection):
    """One head to train and attack. Other keys are those of `TrainingSettings`."""

    head: str
    name: str | None = Field(None, description="in the rows; the head's name by default")
    seeds: list[int] = Field([0], min_length=1)
    head_settings: dict[str, Any] = {}


class BudgetSection(_Section):
    """Every combination of these is one budget."""

    sparsity: list[Share] = Field([0.01], min_length=1)
    epsilon: list[Annotated[float, Field(ge=0)]] = Field([0.5], min_length=1)
    granularity: list[Granularity] = Field(["element"], min_length=1)


class AttackSection(_OpenSection):
    """One attack, native and inside masks. Other keys are its settings."""

    name: str
    native: bool = Field(True, description="run it with a support of its own choice")
    explainers: list[str] = Field([], description="run it inside the masks of these, too")
    scopes: list[Annotated[int, Field(ge=1)]] = Field([1], min_length=1)
    mask_sources: list[str] = Field(["own"], description="`own`, or the name of another victim")


class ConsistencySection(_Section):
    """How it is measured what an attack leaves of the explanation."""

    explainer: str | None = Field("integrated-gradients", description="null measures nothing")
    settings: dict[str, Any] = {}


class EvaluationSection(_Section):
    """How many test utterances are attacked, and in which batches."""

    utterances: int | None = Field(None, ge=1, description="per fold, stratified; all by default")
    batch_size: int = Field(32, ge=1)
    seed: int = 0
    exemplars: int = Field(3, ge=0, description="utterances the report shows in full")


class ExecutorSection(_OpenSection):
    """Where the work runs. Other keys go to the executor."""

    name: str = "processes"


class StudyConfig(_Section):
    """A whole study."""

    name: str
    corpus: CorpusSection
    encoder: EncoderSection
    victims: list[VictimSection] = Field(min_length=1)
    explainers: dict[str, dict[str, Any]] = Field(
        {}, description="settings by name; `name` in them makes an alias"
    )
    budgets: BudgetSection = BudgetSection()
    attacks: list[AttackSection] = Field(min_length=1)
    consistency: ConsistencySection = ConsistencySection()
    evaluation: EvaluationSection = EvaluationSection()
    executor: ExecutorSection = ExecutorSection()

    @field_validator("name")
    @classmethod
    def _name_is_a_folder(cls, name: str) -> str:
        if safe_name(name) != name:
            raise ValueError(
                f"use letters, digits, '.', '_' and '-' alone, e.g. {safe_name(name)!r}"
            )
        return name


def load_study(path: Path | str, overrides: Sequence[str] = ()) -> StudyConfig:
    """Read a study file.

    Args:
        path: the TOML file; relative folders in it are relative to it.
        overrides: `a.b=value` each, value as TOML (or as plain text where that fails).

    Raises:
        ConfigError: names the file, the key and its line.
    """
    path = Path(path)
    try:
        text = path.read_text("utf-8")
    except OSError as fault:
        raise ConfigError(f"cannot read the study file {path}: {fault.strerror}") from fault
    try:
        values = tomllib.loads(text)
    except tomllib.TOMLDecodeError as fault:
        raise ConfigError(f"{path} is not valid TOML: {fault}") from fault
    return parse_study(values, overrides, source=path, text=text)


def parse_study(
    values: Mapping[str, Any],
    overrides: Sequence[str] = (),
    *,
    source: Path | None = None,
    text: str = "",
) -> StudyConfig:
    """A study from plain values; `source` and `text` serve the error messages."""
    merged = _plain(values)
    for override in overrides:
        _override(merged, override)
    try:
        study = StudyConfig.model_validate(merged)
    except ValidationError as fault:
        raise ConfigError(_sentence(fault, source, text)) from None
    root = study.corpus.root
    if root is not None and not root.is_absolute() and source is not None:
        corpus = study.corpus.model_copy(update={"root": (source.parent / root).resolve()})
        study = study.model_copy(update={"corpus": corpus})
    folder = Path(study.encoder.name)
    if source is not None and not folder.is_absolute() and (source.parent / folder).is_dir():
        name = str((source.parent / folder).resolve())
        study = study.model_copy(
            update={"encoder": study.encoder.model_copy(update={"name": name})}
        )
    return study


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


def _sentence(fault: ValidationError, source: Path | None, text: str) -> str:
    """The first fault as one sentence that names the key, its line and near matches."""
    # A misspelt key is also a missing one: the misspelling is what the user can see.
    first = min(fault.errors(), key=lambda error: error["type"] != "extra_forbidden")
    path = [str(part) for part in first["loc"]]
    key = ".".join(path)
    match first["type"]:
        case "extra_forbidden":
            said = f"there is no key {key!r}{_near(path)}"
        case "missing":
            said = f"the key {key!r} is missing"
        case _:
            said = f"{key}: {first['msg'][:1].lower()}{first['msg'][1:]}, got {first['input']!r}"
    where = f"{source}{_line(path, text)}: " if source is not None else "study: "
    return where + said


def _near(path: Sequence[str]) -> str:
    model: Any = StudyConfig
    for part in path[:-1]:
        field = model.model_fields.get(part) if hasattr(model, "model_fields") else None
        if field is not None:
            candidates = [field.annotation, *get_args(field.annotation)]
            model = next((c for c in candidates if hasattr(c, "model_fields")), None)
    if not hasattr(model, "model_fields"):
        return ""
    known = list(model.model_fields)
    near = difflib.get_close_matches(path[-1], known, n=3, cutoff=0.5)
    return f"; did you mean {' or '.join(near)}?" if near else f"; known: {', '.join(known)}"


def _line(path: Sequence[str], text: str) -> str:
    """The line of the last named part of a key, which `tomllib` does not tell."""
    names = [part for part in path if not part.isdigit()]
    start = 0
    for depth, name in enumerate(names):
        last = depth == len(names) - 1
        table = rf"^\s*\[+[^\]\n]*\b{re.escape(name)}\b[^\]\n]*\]+"
        entry = rf"^\s*[\"']?{re.escape(name)}[\"']?\s*="
        found = re.compile(f"{table}|{entry}" if last else table, re.M).search(text, start)
        if found is not None:
            start = found.start() + len(found.group()) - len(found.group().lstrip())
            if last:
                return f", line {text.count(chr(10), 0, start) + 1}"
    return ""
