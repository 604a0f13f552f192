"""Registered members (attacks, explainers, heads, corpora ...): found by name, made with settings.

A package registers its members with one decorator. The packages are imported at the first look-up
of a kind, so this module imports none of them. Third-party packages register their members through
entry points of the group `sigma_ser.<kind>`.
"""

from __future__ import annotations

import difflib
import importlib
import inspect
import pkgutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.metadata import entry_points
from typing import Any, TypeVar

from .errors import (
    AttackError,
    CertificateError,
    ConfigError,
    EncoderError,
    ExplainerError,
    RegistryError,
    SigmaError,
    UnknownNameError,
    VictimError,
)
from .settings import check_settings

T = TypeVar("T")


@dataclass(frozen=True)
class _Kind:
    """The package (or module) of the members of a kind, and the error for wrong settings."""

    package: str
    error: type[SigmaError]


_KINDS = {
    "attack": _Kind("sigma_ser.attacks", AttackError),
    "certificate": _Kind("sigma_ser.certificates", CertificateError),
    "corpus": _Kind("sigma_ser.corpora", ConfigError),
    "corruption": _Kind("sigma_ser.audio.corruptions", ConfigError),
    "encoder": _Kind("sigma_ser.encoders", EncoderError),
    "executor": _Kind("sigma_ser.execution", ConfigError),
    "explainer": _Kind("sigma_ser.explainers", ExplainerError),
    "head": _Kind("sigma_ser.victims", VictimError),
    "protocol": _Kind("sigma_ser.corpora", ConfigError),
    "tracker": _Kind("sigma_ser.study.tracking", ConfigError),
}

_members: dict[str, dict[str, Any]] = {kind: {} for kind in _KINDS}
_loaded: set[str] = set()


def register(kind: str, name: str) -> Callable[[T], T]:
    """Register a class or function under `name`, as a decorator.

    Raises:
        UnknownNameError: if there is no such kind.
        RegistryError: when the decorator is applied, if another member has this name.

    >>> from sigma_ser.core.registry import names, register
    >>> @register("head", "my-head")
    ... class MyHead: ...
    >>> "my-head" in names("head")
    True
    """
    _check_kind(kind)

    def add(member: T) -> T:
        _add(kind, name, member)
        return member

    return add


def names(kind: str) -> tuple[str, ...]:
    """All names of a kind (`attack`, `corpus`, `encoder`, `explainer`, `head` ...), sorted."""
    _load(kind)
    return tuple(sorted(_members[kind]))


def get(kind: str, name: str) -> Any:
    """The member registered under `name`.

    Raises:
        UnknownNameError: if there is none; the message lists near matches.
    """
    _load(kind)
    if name not in _members[kind]:
        raise UnknownNameError(f"no {kind} is called {name!r}; {suggestion(name, names(kind))}")
    return _members[kind][name]


def name_of(kind: str, member: Any) -> str:
    """The name under which a member is registered, or the name of its class if it is not."""
    _check_kind(kind)
    registered = (name for name, one in _members[kind].items() if one is member)
    return next(registered, _origin(member)[1])


def make(
    kind: str, name: str, settings: Mapping[str, Any] | None = None, *given: Any, **supplied: Any
) -> Any:
    """Make the member registered under `name` after its settings have been checked.

    Args:
        kind: what is made, such as `attack`.
        name: a name of `names(kind)`.
        settings: values that the user chose, by name.
        given: positional arguments that the caller supplies, such as the channels of a head.
        supplied: keyword arguments that the caller supplies, such as the seed of a protocol.

    Raises:
        UnknownNameError: if there is no such kind or name; the message lists near matches.
        SigmaError: of the type that belongs to the kind (`AttackError` for an attack), if a
            setting is unknown, has the wrong type or is missing, or the member does not accept it.

    >>> make("attack", "random", {"draws": 3})
    RandomCorner(draws=3)
    """
    member = get(kind, name)
    check(kind, name, settings, *given, **supplied)
    try:
        return member(*given, **supplied, **(settings or {}))
    except SigmaError:
        raise
    except (TypeError, ValueError, OverflowError, RuntimeError, MemoryError) as fault:
        # A member need not check every value that its annotations allow.
        chosen = ", ".join(f"{name}={value!r}" for name, value in (settings or {}).items())
        raise _KINDS[kind].error(
            f"the {kind} {name!r} does not accept these settings ({chosen[:200]}): {fault}"
        ) from fault


def check(
    kind: str, name: str, settings: Mapping[str, Any] | None = None, *given: Any, **supplied: Any
) -> None:
    """Raise as `make` does for a wrong name or setting, without making anything."""
    member = get(kind, name)
    bound = inspect.signature(member).bind_partial(*given, **supplied).arguments
    check_settings(f"the {kind} {name!r}", member, settings or {}, _KINDS[kind].error, bound)


def kinds() -> tuple[str, ...]:
    """What can be registered."""
    return tuple(sorted(_KINDS))


def _add(kind: str, name: str, member: Any) -> None:
    taken = _members[kind].setdefault(name, member)
    if taken is member:
        return
    # A module that is loaded again registers a new object of the same name.
    if _origin(taken) != _origin(member):
        raise RegistryError(
            f"the {kind} {name!r} of {_origin(member)[0]} has the name of another one in "
            f"{_origin(taken)[0]}; choose another name"
        )
    _members[kind][name] = member


def _origin(member: Any) -> tuple[str, str]:
    """Module and qualified name."""
    return (
        str(getattr(member, "__module__", type(member).__module__)),
        str(getattr(member, "__qualname__", repr(member))),
    )


def suggestion(name: str, known: tuple[str, ...]) -> str:
    """Near matches of a name that is not known, or all known names."""
    near = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
    near += [other for other in known if name in other and other not in near][:3]
    if near:
        return "did you mean " + " or ".join(near) + "?"
    return "known: " + ", ".join(known)


def _check_kind(kind: str) -> None:
    if kind not in _KINDS:
        raise UnknownNameError(f"no registry is called {kind!r}; {suggestion(kind, kinds())}")


def _load(kind: str) -> None:
    _check_kind(kind)
    if kind in _loaded:
        return
    package = importlib.import_module(_KINDS[kind].package)
    for module in pkgutil.walk_packages(getattr(package, "__path__", ()), f"{package.__name__}."):
        importlib.import_module(module.name)
    # Marked before the entry points, so that a plugin may itself look up a name.
    _loaded.add(kind)
    for point in entry_points(group=f"sigma_ser.{kind}"):
        try:
            member = point.load()
        except (ImportError, AttributeError) as fault:
            raise RegistryError(
                f"an installed package offers the {kind} {point.name!r} as {point.value}, which "
                f"cannot be imported ({fault}); repair or uninstall it"
            ) from fault
        _add(kind, point.name, member)
