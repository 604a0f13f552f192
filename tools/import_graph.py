"""Read which module of sigma_ser imports which, from the sources and without importing them."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

REPOSITORY = Path(__file__).resolve().parents[1]
ROOT = REPOSITORY / "src" / "sigma_ser"
# In the order of the data: a package imports from itself and from packages before it.
PACKAGES = (
    "core", "execution", "statistics", "demo", "audio", "corpora", "encoders", "victims",
    "explainers", "masks", "attacks", "certificates", "evaluate", "runs", "report", "study", "cli",
    "testing",
)  # fmt: skip


class Import(NamedTuple):
    """One module of the project that another one imports."""

    source: str
    target: str
    line: int
    at_import_time: bool  # False inside functions and `if TYPE_CHECKING:` blocks


def list_modules(root: Path = ROOT) -> dict[str, Path]:
    """Every module below a package's folder, by its full name."""
    return {_module_name(path, root): path for path in sorted(root.rglob("*.py"))}


def package_of(module: str) -> str:
    """The package directly below `sigma_ser` that holds a module; empty for `sigma_ser` itself."""
    return f"{module}..".split(".")[1]


def list_imports(modules: Mapping[str, Path], root: Path = ROOT) -> list[Import]:
    """Every import of one of `modules` in another one."""
    found = []
    for name, path in modules.items():
        package = [root.name, *path.relative_to(root).parent.parts]
        found += read_imports(name, path.read_text("utf-8"), package, modules)
    return found


def read_imports(
    name: str, source: str, package: list[str], modules: Mapping[str, Path]
) -> list[Import]:
    """The imports in the source text of the module `name`, which lies in `package`."""
    return [
        Import(name, target, statement.lineno, at_import_time)
        for statement, at_import_time in _import_statements(ast.parse(source))
        for target in _targets(statement, package, modules)
        if target != name
    ]


def _module_name(path: Path, root: Path) -> str:
    parts = [root.name, *path.relative_to(root).with_suffix("").parts]
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _import_statements(
    node: ast.AST, at_import_time: bool = True
) -> Iterator[tuple[ast.Import | ast.ImportFrom, bool]]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import | ast.ImportFrom):
            yield child, at_import_time
        elif isinstance(child, ast.If) and ast.unparse(child.test).endswith("TYPE_CHECKING"):
            yield from _import_statements(ast.Module(child.body, []), False)
            yield from _import_statements(ast.Module(child.orelse, []), at_import_time)
        else:
            deferred = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef)
            yield from _import_statements(child, at_import_time and not deferred)


def _targets(
    statement: ast.Import | ast.ImportFrom, package: list[str], modules: Mapping[str, Path]
) -> Iterator[str]:
    if isinstance(statement, ast.Import):
        yield from (alias.name for alias in statement.names if alias.name in modules)
        return
    # One dot is the module's own package, each further dot one package up.
    prefix = package[: len(package) + 1 - statement.level] if statement.level else []
    base = ".".join([*prefix, *([statement.module] if statement.module else [])])
    for alias in statement.names:
        submodule = f"{base}.{alias.name}"
        if submodule in modules or base in modules:
            yield submodule if submodule in modules else base
