"""Draw the packages and their imports as SVG: python tools/draw_architecture.py OUT.svg

The picture is computed from the sources, so it cannot differ from them. An arrow leads from a
package to one that it imports. An arrow that follows from others is left out: where A imports B and
B imports C, there is no arrow from A to C. The tooltip of a box lists all direct imports.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Mapping
from html import escape
from pathlib import Path

from import_graph import PACKAGES, list_imports, list_modules, package_of

Graph = dict[str, set[str]]

BOX_X, BOX_WIDTH, BOX_HEIGHT, ROW, MARGIN = 260, 130, 36, 50, 16
WIDTH = 960
STYLE = """
  text { font-family: system-ui, sans-serif; fill: #1d2733; font-size: 13px; }
  .name { font-size: 14px; font-weight: 600; text-anchor: middle; }
  .size { font-size: 10.5px; fill: #5a6675; text-anchor: middle; }
  rect { fill: #eef4fa; stroke: #1467a8; stroke-width: 1.2; }
  path { fill: none; stroke: #8496a8; stroke-width: 1.2; marker-end: url(#head); }
  marker path { fill: #8496a8; stroke: none; marker-end: none; }
  @media (prefers-color-scheme: dark) {
    text { fill: #e6edf3; } .size { fill: #9aa7b5; } rect { fill: #1d2936; stroke: #74b6f0; }
  }
"""


def draw(modules: Mapping[str, Path]) -> str:
    """An SVG image of the packages that hold `modules`; equal sources give equal text."""
    graph = _package_graph(modules)
    row = {name: MARGIN + ROW * index for index, name in enumerate(graph)}
    reduced = _transitive_reduction(graph)
    arrows = [
        _arrow(row[source], row[target]) for source in graph for target in sorted(reduced[source])
    ]
    boxes = [_box(name, row[name], modules, graph[name]) for name in graph]
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} '
            f'{ROW * len(graph) + MARGIN}" role="img" '
            'aria-label="The packages of sigma_ser and their imports">',
            f"<style>{STYLE}</style>",
            '<marker id="head" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" '
            'markerHeight="7" orient="auto"><path d="M0 0L8 4L0 8z"/></marker>',
            *arrows,
            *boxes,
            "</svg>\n",
        ]
    )


def _package_graph(modules: Mapping[str, Path]) -> Graph:
    """Package -> packages that it imports anywhere, in the order of `PACKAGES`."""
    present = {package_of(module) for module in modules}
    graph: Graph = {name: set() for name in PACKAGES if name in present}
    for found in list_imports(modules):
        source, target = package_of(found.source), package_of(found.target)
        if source in graph and target in graph and source != target:
            graph[source].add(target)
    return graph


def _transitive_reduction(graph: Graph) -> Graph:
    """The same graph without the edges that follow from two or more others."""
    reachable: Graph = {}
    for name in graph:  # in order, so that what a package imports is already there
        reachable[name] = set(graph[name]).union(*(reachable.get(t, set()) for t in graph[name]))
    return {
        name: {
            target
            for target in targets
            if not any(target in reachable.get(other, set()) for other in targets - {target})
        }
        for name, targets in graph.items()
    }


def _arrow(source_row: int, target_row: int) -> str:
    """An arc to the left of the boxes, wider the further apart the packages are."""
    source, target = source_row + BOX_HEIGHT // 2 - 5, target_row + BOX_HEIGHT // 2 + 5
    bend = BOX_X - 12 - abs(source - target) * (BOX_X - 20) * 4 // (3 * ROW * len(PACKAGES))
    return f'<path d="M{BOX_X} {source}C{bend} {source} {bend} {target} {BOX_X - 2} {target}"/>'


def _box(name: str, top: int, modules: Mapping[str, Path], imports: set[str]) -> str:
    middle, right = BOX_X + BOX_WIDTH // 2, BOX_X + BOX_WIDTH + 16
    count = sum(package_of(module) == name for module in modules)
    noun = "module" if count == 1 else "modules"
    listed = ", ".join(each for each in PACKAGES if each in imports) or "no other package"
    return (
        f"<g><title>{name} imports {listed}</title>"
        f'<rect x="{BOX_X}" y="{top}" width="{BOX_WIDTH}" height="{BOX_HEIGHT}" rx="6"/>'
        f'<text class="name" x="{middle}" y="{top + 16}">{name}</text>'
        f'<text class="size" x="{middle}" y="{top + 29}">{count} {noun}</text>'
        f'<text x="{right}" y="{top + 22}">{escape(_subject(modules, name))}</text></g>'
    )


def _subject(modules: Mapping[str, Path], package: str) -> str:
    """The first sentence of a package's docstring."""
    path = modules.get(f"sigma_ser.{package}")
    lines = (ast.get_docstring(ast.parse(path.read_text("utf-8"))) if path else None) or ""
    return " ".join(lines.split("\n\n")[0].split()).split(". ")[0].rstrip(".")


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(draw(list_modules()), encoding="utf-8")
