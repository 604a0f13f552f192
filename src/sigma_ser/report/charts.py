"""The charts of the page, drawn from cells."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from sigma_ser.evaluate.notes import CODES, is_about

from .cells import Budgets, Cell
from .formats import cell_budget, decimal, percent, share
from .lines import grouped, leading_methods, line_name, lines_of, short_name
from .svg import Plot, Ticks, nice_ticks

PERCENT_TICKS: Ticks = [(v, f"{round(100 * v)}") for v in (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)]
LABEL_ROOM = 196.0


@dataclass(frozen=True)
class Metric:
    """A consistency metric with its title, axis label, and smallest and largest possible value."""

    name: str
    title: str
    axis: str
    limits: tuple[float, float]


METRICS: tuple[Metric, ...] = (
    Metric("topk_intersection", "Overlap of the k most salient values", "overlap, %", (0.0, 1.0)),
    Metric("spearman", "Rank correlation (Spearman)", "rank correlation", (-1.0, 1.0)),
    Metric("cosine", "Cosine similarity", "cosine similarity", (0.0, 1.0)),
    Metric("iou", "Intersection over union of the k most salient values", "IoU", (0.0, 1.0)),
    Metric("kendall", "Rank correlation of frames (Kendall)", "Kendall's tau", (-1.0, 1.0)),
    Metric("ssim_time", "Structural similarity over time", "SSIM", (-1.0, 1.0)),
    Metric("centre_shift", "Shift of the temporal centre of mass", "shift, s", (0.0, math.inf)),
)


def limits_of(name: str) -> tuple[float, float]:
    """The smallest and largest possible value of a metric."""
    return next(metric.limits for metric in METRICS if metric.name == name)


@dataclass(frozen=True)
class Chart:
    """A plot with its title, the notes on its figures, and style and name of each line."""

    title: str
    svg: Markup
    notes: Sequence[str] = ()
    names: Sequence[tuple[str, str]] = ()


def over_budget(cells: Sequence[Cell], budgets: Budgets) -> list[Chart]:
    """Success rate against the budget.

    With several sparsities, one chart per panel and epsilon over sparsity; with one sparsity and
    several epsilons, one chart per panel over epsilon; with one budget, no chart.
    """
    if len(budgets.sparsities) > 1:
        along, fixed = "sparsity", "epsilon"
        values = budgets.sparsities
        x_title, texts = "sparsity: values that may change, %", [f"{100 * v:.3g}" for v in values]
    elif len(budgets.epsilons) > 1:
        along, fixed = "epsilon", "sparsity"
        values = budgets.epsilons
        x_title, texts = "ε: maximum change, σ", [f"{v:g}" for v in values]
    else:
        return []
    charts = []
    shown = leading_methods(cells)
    for (panel, level), group in grouped(cells, lambda c: (c["panel"], c[fixed])):
        plot = Plot(
            x=_padded_log(values, most=1.0 if along == "sparsity" else math.inf),
            y=(0.0, 1.0),
            x_ticks=thinned(values, texts),
            y_ticks=PERCENT_TICKS,
            x_title=x_title,
            y_title="attack success rate, %",
            logarithmic=True,
            label_room=LABEL_ROOM,
        )
        for line in lines_of(group, shown):
            line.sort(key=lambda cell: cell[along])
            style = line[0]["kind"]
            plot.line([(c[along], c["asr"]) for c in line], style, label=line_name(line[0]))
            for cell in line:
                plot.interval(cell[along], cell["asr_low"], cell["asr_high"], style)
                plot.point(
                    cell[along],
                    cell["asr"],
                    style,
                    title=point_title(cell),
                    href=f"#{cell['cell']}",
                )
        text = f"ε = {level:g} σ" if fixed == "epsilon" else f"{share(level)} of the values"
        title = f"{panel}, {text}"
        drawn = plot.svg(f"Attack success rate against the budget: {title}")
        charts.append(Chart(title, drawn, short_notes(group, "asr"), plot.names))
    return charts


def fronts(cells: Sequence[Cell], metric: Metric) -> list[Chart]:
    """Success rate against explanation consistency, one chart per panel, on equal axes."""
    charts = []
    rated = [c for c in cells if c["asr"] is not None and c[metric.name] is not None]
    if not rated:
        return []
    both = [c[name] for c in rated for name in (metric.name, f"{metric.name}_floor")]
    values = [value for value in both if value is not None]
    ticks = nice_ticks(min(values), max(values), within=metric.limits)
    for panel, points in grouped(rated, lambda c: c["panel"]):
        floors = [c[f"{metric.name}_floor"] for c in points]
        known = [floor for floor in floors if floor is not None]
        hundred = metric.name == "topk_intersection"
        plot = Plot(
            x=(0.0, 1.0),
            y=(ticks[0], ticks[-1]),
            x_ticks=PERCENT_TICKS,
            y_ticks=[(t, f"{100 * t:.0f}" if hundred else f"{t:g}") for t in ticks],
            x_title="attack success rate, %",
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
                title=f"{point_title(cell)}; {metric.axis} {value}",
                href=f"#{cell['cell']}",
            )
        charts.append(
            Chart(
                panel,
                plot.svg(f"{metric.title} against attack success rate: {panel}"),
                short_notes(points, metric.name),
            )
        )
    return charts


def scope_curves(cells: Sequence[Cell]) -> list[Chart]:
    """Success rate against the mask size, one line per explainer, for cells of one budget.

    The dashed line is the same attack without a mask.
    """
    charts = []
    scopes = sorted(
        {float(c["scope"]) for c in cells if c["scope"] is not None and c["asr"] is not None}
    )
    for (panel, attack), group in grouped(cells, lambda c: (c["panel"], c["attack_settings"])):
        masked = [c for c in group if c["scope"] is not None and c["asr"] is not None]
        if len({cell["scope"] for cell in masked}) < 2:
            continue
        plot = Plot(
            x=_padded_log(scopes, least=1.0),
            y=(0.0, 1.0),
            x_ticks=thinned(scopes, [f"{s:g}" for s in scopes]),
            y_ticks=PERCENT_TICKS,
            x_title="scope: mask size as a multiple of k",
            y_title="attack success rate, %",
            logarithmic=True,
            label_room=LABEL_ROOM,
        )
        for cell in group:
            if cell["explainer"] is None and cell["asr"] is not None:
                plot.level(cell["asr"], "native", label="no mask")
        for (explainer, source), line in grouped(
            masked, lambda c: (c["explainer"], c["mask_source"])
        ):
            line.sort(key=lambda cell: cell["scope"])
            style = "control" if explainer == "random" else "scope"
            name = explainer if source in (None, "own") else f"{explainer} of {source}"
            plot.line([(float(c["scope"]), c["asr"]) for c in line], style, label=short_name(name))
            for cell in line:
                scope = float(cell["scope"])
                plot.interval(scope, cell["asr_low"], cell["asr_high"], style)
                plot.point(
                    scope,
                    cell["asr"],
                    cell["kind"],
                    title=point_title(cell),
                    href=f"#{cell['cell']}",
                )
        title = f"{panel}, {group[0]['attack'] or attack}"
        drawn = plot.svg(f"Attack success rate against scope: {title}")
        charts.append(Chart(title, drawn, short_notes(group, "asr"), plot.names))
    return charts


def _front(points: Sequence[Cell], metric: str, *, smaller_is_better: bool) -> list[Cell]:
    """The Pareto front of success and consistency, in ascending order of success."""
    sign = -1.0 if smaller_is_better else 1.0
    front: list[Cell] = []
    for cell in sorted(points, key=lambda c: (-c["asr"], -sign * c[metric])):
        if not front or sign * cell[metric] > sign * front[-1][metric]:
            front.append(cell)
    return front[::-1]


def short_notes(cells: Sequence[Cell], column: str) -> list[str]:
    """Short names of the notes on a column of cells, with the number of cells where it is not all.

    Args:
        cells: lines of `page_cells`, with their notes as `notes`.
        column: a column of `summarise`.
    """
    counts: dict[str, int] = {}
    for cell in cells:
        for code in dict.fromkeys(
            note["code"] for note in cell.get("notes", ()) if is_about(note, column)
        ):
            counts[code] = counts.get(code, 0) + 1
    return [
        CODES[code] if count == len(cells) else f"{CODES[code]}: {count} of {len(cells)} results"
        for code, count in counts.items()
    ]


def _padded_log(
    values: Sequence[float], *, least: float = 0.0, most: float = math.inf
) -> tuple[float, float]:
    pad = (values[-1] / values[0]) ** 0.06
    return max(values[0] / pad, least), min(values[-1] * pad, most)


def thinned(values: Sequence[float], texts: Sequence[str]) -> Ticks:
    """Ticks that do not overlap on a logarithmic axis."""
    ticks: list[tuple[float, str]] = []
    room = math.log(values[-1] / values[0]) / 7
    for value, text in zip(values, texts, strict=True):
        if not ticks or math.log(value / ticks[-1][0]) >= room:
            ticks.append((value, text))
    return ticks


def point_title(cell: Cell) -> str:
    """Method, victim, success rate and budget of a cell, for the tooltip of its marker."""
    rate = percent(cell["asr"])
    return f"{cell['method']}, {cell['panel']}: success rate {rate} ({cell_budget(cell)})"
