"""Public names of a package that are imported when they are first used."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Mapping
from typing import Any


def lazy_names(
    package: str, homes: Mapping[str, str]
) -> tuple[Callable[[str], Any], Callable[[], list[str]], list[str]]:
    """Make `__getattr__`, `__dir__` and `__all__` of a package.

    An `if TYPE_CHECKING` block beside it imports the same names for type checkers and editors.

    Args:
        package: the `__name__` of the package.
        homes: for each public name the module that defines it, relative to the package; a name
            that is a module itself has a home that ends with a colon, such as `core.errors:`.

    >>> attribute, _, public = lazy_names("sigma_ser", {"Budget": "core.budget"})
    >>> attribute("Budget").__module__, public
    ('sigma_ser.core.budget', ['Budget'])
    """

    def attribute(name: str) -> Any:
        if name not in homes:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        home = f"{package}.{homes[name]}"
        module = importlib.import_module(home.removesuffix(":"))
        value = module if home.endswith(":") else getattr(module, name)
        setattr(sys.modules[package], name, value)
        return value

    def listed() -> list[str]:
        return sorted({*vars(sys.modules[package]), *homes})

    return attribute, listed, list(homes)
