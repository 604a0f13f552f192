"""Figures for papers in SVG, PDF and PNG, legible in greyscale and with colour blindness."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sigma_ser.core.files import whole_file
from sigma_ser.evaluate.notes import NoteIndex

from .cells import KINDS, Budgets, Cell, at_budget
from .charts import limits_of, short_notes, thinned
from .formats import budget_text
from .lines import by_strength, grouped, leading_methods, lines_of

if TYPE_CHECKING:
    import polars as pl
    from matplotlib.figure import Figure

# Colours of Okabe & Ito 2008 with different lightness; the marker shape is redundant with them.
_LOOK: dict[str, dict[str, Any]] = {
    "native": {"color": "#0072B2", "marker": "o"},
    "scope": {"color": "#D55E00", "marker": "D"},
    "mask": {"color": "#B8960C", "marker": "s"},
    "control": {"color": "#8C8C8C", "marker": "^"},
}
_STYLE: Any = {
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#E3E3E3",
    "axes.axisbelow": True,
    "svg.fonttype": "none",
    "svg.hashsalt": "sigma-ser",
    "pdf.fonttype": 42,
}
_FORMATS = ("svg", "pdf", "png")


def write_figures(
    folder: Path, cells: pl.DataFrame, budgets: Budgets, notes: NoteIndex | None = None
) -> None:
    """Write the figures of a run, each as SVG, PDF and PNG.

    `strength` shows success at the reference budget, `budget` success against sparsity (if there
    are several sparsities), and `front` success against consistency. The title of a panel names
    the degenerate measurements in it.
    """
    import matplotlib as mpl

    if budgets.reference is None:
        return
    with mpl.rc_context(_STYLE):
        every = [cell for cell in cells.to_dicts() if cell["asr"] is not None]
        here = at_budget(cells, budgets.reference).drop_nulls("asr").to_dicts()
        for cell in (*every, *here):
            cell["notes"] = [] if notes is None else notes.of(cell)
        _write(folder / "strength", strength(here, budgets.reference))
        if len(budgets.sparsities) > 1:
            _write(folder / "budget", over_sparsity(every, budgets))
        metric = next((m for m in ("spearman", "topk_intersection", "cosine")
                       if any(cell[m] is not None for cell in every)), None)  # fmt: skip
        if metric is not None:
            _write(folder / "front", front(every, metric))


def strength(cells: Sequence[Cell], budget: tuple[float, float]) -> Figure:
    """Success rate of each method with its 95 % interval, one panel per victim."""
    groups = _by_panel(cells)
    tallest = max(len(group) for group in groups.values())
    # Every panel has its own names, so long names widen the panel instead of the plot area.
    longest = max(len(cell["method"]) for cell in cells)
    width = 1.9 + 0.075 * longest
    titles = {panel: _title(panel, group, "asr") for panel, group in groups.items()}
    height = 0.9 + 0.24 * tallest + _room(titles.values())
    figure, axes = _axes(len(groups), (width, height), sharex=True)
    # One order in all panels, the strongest method at the top.
    order = [method for method, _ in by_strength(cells)][::-1]
    for axis, (panel, group) in zip(axes, groups.items(), strict=True):
        group.sort(key=lambda cell: order.index(cell["method"]))
        for place, cell in enumerate(group):
            rate, low, high = (100 * cell[key] for key in ("asr", "asr_low", "asr_high"))
            axis.errorbar(rate, place, xerr=[[rate - low], [high - rate]], markersize=4.5,
                          elinewidth=1, clip_on=False, **_LOOK[cell["kind"]])  # fmt: skip
        axis.set_yticks(range(len(group)), [_plain(cell["method"]) for cell in group])
        axis.set(title=titles[panel], xlim=(0, 100), xlabel="attack success rate, %")
    figure.suptitle(_plain(budget_text(*budget)), fontsize=9)
    return figure


def over_sparsity(cells: Sequence[Cell], budgets: Budgets) -> Figure:
    """Success rate against sparsity for the strongest methods of each kind.

    There is one panel per victim and epsilon.
    """
    groups = _by_panel(cells)
    pairs = [(panel, epsilon) for panel in groups for epsilon in budgets.epsilons]
    parts = {
        (panel, epsilon): [cell for cell in groups[panel] if cell["epsilon"] == epsilon]
        for panel, epsilon in pairs
    }
    titles = {
        (panel, epsilon): _title(f"{panel}, ε = {epsilon:g} σ", part, "asr")
        for (panel, epsilon), part in parts.items()
    }
    figure, axes = _axes(len(pairs), (3.3, 2.6 + _room(titles.values())), sharey=True)
    methods = leading_methods(cells)
    shown = [100 * sparsity for sparsity in budgets.sparsities]
    ticks = thinned(shown, [f"{x:.3g}" for x in shown])
    for axis, pair in zip(axes, pairs, strict=True):
        for line in lines_of(parts[pair], methods):
            line.sort(key=lambda cell: cell["sparsity"])
            x = [100 * cell["sparsity"] for cell in line]
            axis.plot(x, [100 * c["asr"] for c in line], markersize=4, clip_on=False,
                      **_LOOK[line[0]["kind"]])  # fmt: skip
            axis.fill_between(
                x, [100 * c["asr_low"] for c in line], [100 * c["asr_high"] for c in line],
                color=_LOOK[line[0]["kind"]]["color"], alpha=0.10, linewidth=0,
            )  # fmt: skip
        axis.set(title=titles[pair], xscale="log", ylim=(0, 100),
                 xlabel="sparsity: values that may change, %",
                 ylabel="attack success rate, %")  # fmt: skip
        axis.set_xticks(*zip(*ticks, strict=True))
        axis.minorticks_off()
        axis.set_xlim(right=min(axis.get_xlim()[1], 100))
    _legend(figure, cells)
    return figure


def front(cells: Sequence[Cell], metric: str) -> Figure:
    """Success rate against explanation consistency, one panel per victim."""
    groups = _by_panel(cells)
    titles = {panel: _title(panel, group, metric) for panel, group in groups.items()}
    size = (3.3, 2.8 + _room(titles.values()))
    figure, axes = _axes(len(groups), size, sharex=True, sharey=True)
    for axis, (panel, group) in zip(axes, groups.items(), strict=True):
        # All points of a kind in one call: single calls took most of the time of a report.
        for kind, points in grouped(group, lambda cell: cell["kind"]):
            measured = [cell for cell in points if cell[metric] is not None]
            axis.plot([100 * cell["asr"] for cell in measured], [cell[metric] for cell in measured],
                      linestyle="", markersize=4.5, markeredgecolor="white", markeredgewidth=0.4,
                      clip_on=False, **_LOOK[kind])  # fmt: skip
        axis.set(title=titles[panel], xlim=(0, 100), xlabel="attack success rate, %",
                 ylabel=metric.replace("_", " "))  # fmt: skip
    (least, most), (low, high) = limits_of(metric), axes[0].get_ylim()
    axes[0].set_ylim(max(low, least), min(high, most))  # the axes are shared
    _legend(figure, cells)
    return figure


def _axes(
    panels: int, size: tuple[float, float], *, sharex: bool = False, sharey: bool = False
) -> tuple[Figure, list[Any]]:
    from matplotlib.figure import Figure

    columns = min(panels, 3)
    lines = -(-panels // columns)
    figure = Figure(figsize=(size[0] * columns, size[1] * lines), layout="constrained")
    grid = figure.subplots(lines, columns, squeeze=False, sharex=sharex, sharey=sharey)
    axes = grid.ravel().tolist()
    for spare in axes[panels:]:
        spare.remove()
    return figure, axes[:panels]


def _legend(figure: Figure, cells: Sequence[Cell]) -> None:
    from matplotlib.lines import Line2D

    present = [kind for kind in KINDS if any(cell["kind"] == kind for cell in cells)]
    handles = [Line2D([], [], linestyle="", label=KINDS[k], markersize=4.5, **_LOOK[k])
               for k in present]  # fmt: skip
    figure.legend(handles=handles, loc="outside lower center", ncols=2, frameon=False, fontsize=8)


def _by_panel(cells: Sequence[Cell]) -> dict[str, list[Cell]]:
    return dict(grouped(cells, lambda cell: cell["panel"]))


def _plain(name: str) -> str:
    """The name with escaped dollar signs, which matplotlib would read as mathematics."""
    return name.replace("$", r"\$")


def _title(title: str, cells: Sequence[Cell], column: str) -> str:
    """A title, and on further lines the notes on a column of the cells."""
    return _plain("\n".join([title, *short_notes(cells, column)]))


def _room(titles: Iterable[str]) -> float:
    """Height of the further lines of titles, in inches."""
    return 0.2 * max((title.count("\n") for title in titles), default=0)


def _write(path: Path, figure: Figure) -> None:
    # The layout is the same in every format and takes as long as drawing, so it is computed once.
    figure.draw_without_rendering()
    figure.set_layout_engine("none")
    for suffix in _FORMATS:
        # Without dates, equal figures are equal files.
        metadata = {"svg": {"Date": None}, "pdf": {"CreationDate": None}}.get(suffix)
        with whole_file(path.with_suffix(f".{suffix}")) as aside:
            figure.savefig(aside, format=suffix, dpi=160, metadata=metadata)
