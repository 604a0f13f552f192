"""Names of attacks, explainers, heads, corpora ...: found lazily, with near matches on a typo.

A room registers its members with one decorator; importing the room happens at the first look-up,
so this module imports no room. Third-party packages register through entry points of the group
`sigma_ser.<kind>`.
"""

from __future__ import annotations

import difflib
import importlib
import pkgutil
from collections.abc import Callable
from importlib.metadata import entry_points
from typing import Any, TypeVar

from .errors import SigmaError, UnknownNameError

T = TypeVar("T")

_PACKAGES = {
    "attack": "sigma_ser.attacks",
    "corpus": "sigma_ser.corpora",
    "encoder": "sigma_ser.encoders",
    "executor": "sigma_ser.execution",
    "explainer": "sigma_ser.explainers",
    "head": "sigma_ser.victims",
    "protocol": "sigma_ser.corpora",
}

_members: dict[str, dict[str, Any]] = {kind: {} for kind in _PACKAGES}
_loaded: set[str] = set()


def register(kind: str, name: str) -> Callable[[T], T]:
    """Decorator: register a class or function under `name`.

    >>> from sigma_ser.core.registry import names, register
    >>> @register("head", "my-head")
    ... class MyHead: ...
    >>> "my-head" in names("head")
    True
    """
    _check_kind(kind)

    def add(member: T) -> T:
        _members[kind][name] = member
        return member

    return add


def names(kind: str) -> tuple[str, ...]:
    """All names of a kind (`attack`, `corpus`, `encoder`, `explainer`, `head` ...), sorted."""
    _load(kind)
    return tuple(sorted(_members[kind]))


def get(kind: str, name: str) -> Any:
    """The member registered under `name`.

    Raises:
        UnknownNameError: if there is none; the text lists near matches.
    """
    _load(kind)
    if name not in _members[kind]:
        raise UnknownNameError(f"no {kind} is called {name!r}; {_suggestion(name, names(kind))}")
    return _members[kind][name]


def kinds() -> tuple[str, ...]:
    """What can be registered."""
    return tuple(sorted(_PACKAGES))


def _suggestion(name: str, known: tuple[str, ...]) -> str:
    near = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
    near += [other for other in known if name in other and other not in near][:3]
    if near:
        return "did you mean " + " or ".join(near) + "?"
    return "known: " + ", ".join(known)


def _check_kind(kind: str) -> None:
    if kind not in _PACKAGES:
        raise UnknownNameError(
            f"no registry is called {kind!r}; {_suggestion(kind, tuple(sorted(_PACKAGES)))}"
        )


def _load(kind: str) -> None:
    _check_kind(kind)
    if kind in _loaded:
        return
    package = importlib.import_module(_PACKAGES[kind])
    for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
        importlib.import_module(module.name)
    # Marked before the entry points, so that a plugin may itself ask for a name.
    _loaded.add(kind)
    for point in entry_points(group=f"sigma_ser.{kind}"):
        try:
            member = point.load()
        except (ImportError, AttributeError) as fault:
            raise SigmaError(
                f"an installed package offers the {kind} {point.name!r} as {point.value}, which "
                f"cannot be imported ({fault}); mend or uninstall it"
            ) from fault
        _members[kind].setdefault(point.name, member)
