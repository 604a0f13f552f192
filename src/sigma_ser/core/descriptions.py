"""Descriptions of registered members, read from their docstrings and signatures."""

from __future__ import annotations

import inspect
import re
import typing
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from . import registry

# What the caller of a member supplies, or what only Python code can give: no settings of a study.
_SUPPLIED = frozenset(
    {"channels", "classes", "source", "study", "run_folder", "corpus", "settings", "model", "box"}
)
_ARGUMENT = re.compile(r"(\*{0,2}\w+)(?: \([^)]*\))?: (.*)")
_SECTION = re.compile(r"(Args|Attributes|Returns|Raises|Yields|Source|Examples):\s*(.*)")
# "(Croce & Hein 2019, section 3)", and a sentence that begins with "Source:".
_CITED = re.compile(r"\(((?:[^()]|\([^()]*\))*\b(?:19|20)\d\d\b(?:[^()]|\([^()]*\))*)\)")
_SOURCE = re.compile(r"Source: (.+?)(?:\. [A-Z]|\.?$)", re.DOTALL)


@dataclass(frozen=True)
class Setting:
    """One setting: `default` is written as on the command line, `None` where there is none."""

    name: str
    type: str
    default: str | None
    text: str


@dataclass(frozen=True)
class Description:
    """A registered member in words.

    `text` has the paragraphs after the summary; `citation` is the source that the docstring or the
    card of a corpus names, or an empty string.
    """

    kind: str
    name: str
    summary: str
    text: tuple[str, ...]
    citation: str
    settings: tuple[Setting, ...]


def summary(kind: str, name: str) -> str:
    """The first sentence of the docstring of a member, without markup.

    Raises:
        UnknownNameError: as `registry.get`.

    >>> summary("head", "linear")
    '`W mean_t(x) + b`, for which gradient explanations have a closed form.'
    """
    return _paragraphs(_docstring(registry.get(kind, name)))[0]


def describe(kind: str, name: str) -> Description:
    """Describe a member.

    Args:
        kind: what it is, such as `attack`.
        name: its registered name.

    Raises:
        UnknownNameError: as `registry.get`.

    >>> describe("attack", "random").settings[0].name
    'draws'
    """
    member = registry.get(kind, name)
    first, *further = _paragraphs(_docstring(member))
    return Description(
        kind, name, first, tuple(further), _citation(member), tuple(_settings(member))
    )


def kinds_of(name: str) -> tuple[str, ...]:
    """The kinds that have a member of this name, such as `("explainer",)`.

    >>> kinds_of("random")
    ('attack', 'explainer')
    """
    return tuple(kind for kind in registry.kinds() if name in registry.names(kind))


def _docstring(member: Any) -> str:
    return inspect.getdoc(member) or "It has no description."


def _paragraphs(docstring: str) -> list[str]:
    """The prose of a docstring: the paragraphs before the first section, one line each."""
    found: list[str] = []
    for block in re.split(r"\n\s*\n", docstring):
        if _SECTION.match(block) or block.startswith(">>> "):
            if block.startswith("Source:"):
                continue
            break
        found.append(" ".join(block.split()))
    return found or ["It has no description."]


def _citation(member: Any) -> str:
    """The paper that a docstring names, or the citation of the card of a corpus."""
    published = getattr(getattr(member, "card", None), "citation", "")
    if published:
        return str(published)
    docstring = _docstring(member)
    prose = re.split(r"\n\s*(?:Args|Raises|Returns):", docstring)[0]
    if named := _SOURCE.search(prose):
        return " ".join(named[1].split())
    cited = _CITED.search(" ".join(prose.split()))
    return cited[1] if cited else ""


def _settings(member: Callable[..., Any]) -> Iterator[Setting]:
    texts = _argument_texts(member)
    own = _arguments(_docstring(member))
    parameters = inspect.signature(member).parameters.items()
    # The settings that all members of the kind share come last.
    for name, parameter in sorted(parameters, key=lambda one: one[0] not in own):
        is_open = parameter.kind in {parameter.VAR_KEYWORD, parameter.VAR_POSITIONAL}
        if name in _SUPPLIED or is_open or name.startswith("_"):
            continue
        given = parameter.default
        yield Setting(
            name,
            _type_of(member, name, parameter.annotation),
            None if given is parameter.empty else _text_of(given),
            texts.get(name, ""),
        )


def _type_of(member: Any, name: str, annotation: Any) -> str:
    """The annotation of a setting; the choices where it is one of several words."""
    if annotation is inspect.Parameter.empty:
        return ""
    try:
        # Of a class, these are the annotations of its fields and of those that it inherits.
        hints = typing.get_type_hints(member)
    except (NameError, TypeError):  # a type that is imported for type checkers only, or no class
        hints = {}
    if typing.get_origin(hints.get(name)) is typing.Literal:
        return " | ".join(map(str, typing.get_args(hints[name])))
    return annotation if isinstance(annotation, str) else inspect.formatannotation(annotation)


def _text_of(value: Any) -> str:
    """A default in the form of `name(setting=value)` on the command line, where there is one."""
    match value:
        case bool():
            return str(value).lower()
        case None:
            return "none"
        case str():
            return value
        case tuple() | list():
            return "[" + ", ".join(repr(one) for one in value) + "]"
        case _:
            return repr(value)


def _argument_texts(member: Any) -> dict[str, str]:
    """What docstrings say about each argument; a class after the classes that it extends."""
    classes = reversed(inspect.getmro(member)) if inspect.isclass(member) else (member,)
    texts: dict[str, str] = {}
    for one in classes:
        if one is not object and one.__doc__:
            texts |= _arguments(inspect.cleandoc(one.__doc__))
    return texts


def _arguments(docstring: str) -> dict[str, str]:
    """The section "Args:" of a docstring in Google's style."""
    texts: dict[str, list[str]] = {}
    inside, last = False, ""
    for line in docstring.split("\n"):
        if not line.startswith(" ") and line.strip():
            inside = line.startswith("Args:")
            continue
        # An argument is indented once, and the lines that continue it twice.
        begins = _ARGUMENT.match(line[4:]) if inside else None
        if begins:
            last = begins[1].lstrip("*")
            texts[last] = [begins[2]]
        elif inside and last and line.strip():
            texts[last].append(line.strip())
    return {name: " ".join(words) for name, words in texts.items()}
