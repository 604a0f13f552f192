"""The charts of the page, each from cells alone."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from markupsafe import Markup

from .cells import Budgets, Cell
from .formats import budget_words, decimal, percent, share
from .svg import Plot, Ticks, nice_ticks

K = TypeVar("K")

# Lines that a chart still shows apart: the strongest methods of each kind.
_LINES = {"native": 3, "scope": 3, "mask": 2, "control": 1}
_PERCENT_TICKS: Ticks = [(v, f"{round(100 * v)}") for v in (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)]
_LABEL_ROOM = 196.0
_LABEL_LETTERS = 30


@dataclass(frozen=True)
class Metric:
    """A consistency metric in plain words."""

    name: str
    title: str
    axis: str


METRICS: tuple[Metric, ...] = (
    Metric("topk_intersection", "Most important elements kept", "kept, %"),
    Metric("spearman", "Order of importance kept", "rank correlation"),
    Metric("cosine", "Shape of the map kept", "cosine"),
    Metric("iou", "Overlap of the most important elements", "IoU"),
    Metric("kendall", "Order of moments kept", "Kendall's tau"),
    Metric("ssim_time", "Time profile kept", "SSIM"),
    Metric("centre_shift", "Shift of the centre in time", "seconds"),
)


@dataclass(frozen=True)
class Chart:
    """A plot with its heading."""

    title: str
    svg: Markup


def over_budget(cells: Sequence[Cell], budgets: Budgets) -> list[Chart]:
    """Success rate over sparsity, a chart for each panel and epsilon; over epsilon instead where
    there is one sparsity; none where there is one budget."""
    if len(budgets.sparsities) > 1:
        along, fixed = "sparsity", "epsilon"
        values = budgets.sparsities
        x_title, texts = "elements that may change, %", [f"{100 * v:.3g}" for v in values]
    elif len(budgets.epsilons) > 1:
        along, fixed = "epsilon", "sparsity"
        values = budgets.epsilons
        x_title, texts = "largest move, σ", [f"{v:g}" for v in values]
    else:
        return []
    charts = []
    for (panel, level), group in grouped(cells, lambda c: (c["panel"], c[fixed])):
        plot = Plot(
            x=_padded_log(values),
            y=(0.0, 1.0),
            x_ticks=thinned(values, texts),
            y_ticks=_PERCENT_TICKS,
            x_title=x_title,
            y_title="utterances that fell, %",
            logarithmic=True,
            label_room=_LABEL_ROOM,
        )
        for line in leading_lines(group):
            line.sort(key=lambda cell: cell[along])
            style = line[0]["kind"]
            plot.line([(c[along], c["asr"]) for c in line], style, label=_line_name(line[0]))
            for cell in line:
                plot.interval(cell[along], cell["asr_low"], cell["asr_high"], style)
                plot.point(
                    cell[along], cell["asr"], style, title=_told(cell), href=f"#{cell['cell']}"
                )
        text = f"ε = {level:g} σ" if fixed == "epsilon" else f"{share(level)} of the elements"
        title = f"{panel}, {text}"
        charts.append(Chart(title, plot.svg(f"Success rate over the budget: {title}")))
    return charts


def fronts(cells: Sequence[Cell], metric: Metric) -> list[Chart]:
    """Success rate against what is left of the explanation, a chart for each panel."""
    charts = []
    for panel, group in grouped(cells, lambda c: c["panel"]):
        points = [c for c in group if c["asr"] is not None and c[metric.name] is not None]
        if not points:
            continue
        floors = [c[f"{metric.name}_floor"] for c in points]
        known = [floor for floor in floors if floor is not None]
        values = [c[metric.name] for c in points]
        ticks = nice_ticks(min([*values, *known]), max([*values, *known]))
        hundred = metric.name == "topk_intersection"
        plot = Plot(
            x=(0.0, 1.0),
            y=(ticks[0], ticks[-1]),
            x_ticks=_PERCENT_TICKS,
            y_ticks=[(t, f"{100 * t:.0f}" if hundred else f"{t:g}") for t in ticks],
            x_title="utterances that fell, %",
            y_title=metric.axis,
        )
        best = _front(points, metric.name, smaller_is_better=metric.name == "centre_shift")
        plot.line([(c["asr"], c[metric.name]) for c in best], "front")
        if known:
            plot.level(sum(known) / len(known), "control")
        for cell in points:
            value = decimal(cell[metric.name])
            plot.point(
                cell["asr"],
                cell[metric.name],
                cell["kind"],
                title=f"{_told(cell)}; {metric.axis} {value}",
                href=f"#{cell['cell']}",
            )
        charts.append(Chart(panel, plot.svg(f"{metric.title} against success rate: {panel}")))
    return charts


def scope_curves(cells: Sequence[Cell]) -> list[Chart]:
    """Success rate over the width of the scope, a line for each explainer; the dashed line is the
    same attack without a mask. `cells` are those of one budget."""
    charts = []
    for (panel, attack), group in grouped(cells, lambda c: (c["panel"], c["attack_settings"])):
        masked = [c for c in group if c["scope"] is not None and c["asr"] is not None]
        scopes = sorted({float(cell["scope"]) for cell in masked})
        if len(scopes) < 2:
            continue
        plot = Plot(
            x=_padded_log(scopes),
            y=(0.0, 1.0),
            x_ticks=thinned(scopes, [f"{s:g}" for s in scopes]),
            y_ticks=_PERCENT_TICKS,
            x_title="size of the region, in budgets",
            y_title="utterances that fell, %",
            logarithmic=True,
            label_room=_LABEL_ROOM,
        )
        for cell in group:
            if cell["explainer"] is None and cell["asr"] is not None:
                plot.level(cell["asr"], "native", label="no region")
        for (explainer, source), line in grouped(
            masked, lambda c: (c["explainer"], c["mask_source"])
        ):
            line.sort(key=lambda cell: cell["scope"])
            style = "control" if explainer == "random" else "scope"
            name = explainer if source in (None, "own") else f"{explainer} of {source}"
            plot.line([(float(c["scope"]), c["asr"]) for c in line], style, label=_short(name))
            for cell in line:
                scope = float(cell["scope"])
                plot.interval(scope, cell["asr_low"], cell["asr_high"], style)
                plot.point(scope, cell["asr"], style, title=_told(cell), href=f"#{cell['cell']}")
        title = f"{panel}, {group[0]['attack'] or attack}"
        charts.append(Chart(title, plot.svg(f"Success rate over scope: {title}")))
    return charts


def leading_lines(cells: Iterable[Cell]) -> list[list[Cell]]:
    """The strongest methods of each kind, each as a list of its cells."""
    rated = [cell for cell in cells if cell["asr"] is not None]
    lines = [line for _, line in grouped(rated, lambda cell: cell["method"])]
    lines.sort(key=lambda line: -sum(cell["asr"] for cell in line) / len(line))
    left = dict(_LINES)
    chosen = []
    for line in lines:
        kind = line[0]["kind"]
        if left[kind] > 0:
            left[kind] -= 1
            chosen.append(line)
    return chosen


def _front(points: Sequence[Cell], metric: str, *, smaller_is_better: bool) -> list[Cell]:
    """The cells that no other beats in both success and consistency, by rising success."""
    sign = -1.0 if smaller_is_better else 1.0
    front: list[Cell] = []
    for cell in sorted(points, key=lambda c: (-c["asr"], -sign * c[metric])):
        if not front or sign * cell[metric] > sign * front[-1][metric]:
            front.append(cell)
    return front[::-1]


def grouped(cells: Iterable[Cell], key: Callable[[Cell], K]) -> list[tuple[K, list[Cell]]]:
    """Cells by a key, in the order in which the keys first occur."""
    groups: dict[K, list[Cell]] = {}
    for cell in cells:
        groups.setdefault(key(cell), []).append(cell)
    return list(groups.items())


def _padded_log(values: Sequence[float]) -> tuple[float, float]:
    pad = (values[-1] / values[0]) ** 0.06
    return values[0] / pad, values[-1] * pad


def thinned(values: Sequence[float], texts: Sequence[str]) -> Ticks:
    """Ticks that do not run into each other on a logarithmic axis."""
    ticks: list[tuple[float, str]] = []
    room = math.log(values[-1] / values[0]) / 7
    for value, text in zip(values, texts, strict=True):
        if not ticks or math.log(value / ticks[-1][0]) >= room:
            ticks.append((value, text))
    return ticks


def _line_name(cell: Cell) -> str:
    """The method, or only its region where both do not fit."""
    if len(cell["method"]) > _LABEL_LETTERS and cell["explainer"] is not None:
        return _short(f"… in {cell['explainer']} ×{cell['scope'] or 1}")
    return _short(cell["method"])


def _short(name: str) -> str:
    return name if len(name) <= _LABEL_LETTERS else name[: _LABEL_LETTERS - 1] + "…"


def _told(cell: Cell) -> str:
    where = budget_words(cell["sparsity"], cell["epsilon"])
    return f"{cell['method']}, {cell['panel']}: {percent(cell['asr'])} fell ({where})"
