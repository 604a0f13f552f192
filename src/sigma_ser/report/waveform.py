"""Attacks on the waveform beside natural corruptions: the section of the page on recordings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sigma_ser.core.rows import AUDIO_QUALITY
from sigma_ser.evaluate.rates import IN_MEMORY, headline, success_rates

from .cells import POOLED_COLUMNS, Cell, page_cells, strongest
from .charts import LABEL_ROOM, PERCENT_TICKS, Chart, point_title, short_notes
from .formats import share
from .lines import grouped, leading_methods, line_name, lines_of
from .svg import Plot

if TYPE_CHECKING:
    import polars as pl

CORRUPTION = "corruption"
_MEMORY = "memory_"


@dataclass(frozen=True)
class WaveformPanel:
    """All results of one victim on the waveform.

    Attributes:
        panel: name of the victim, see `page_cells`.
        best: the strongest attack at the budget at which the attacks differ most.
        natural: the corruption of the same or of no ratio that causes most errors, if there is one.
        cells: all results; budgets in ascending order of loudness, and corruptions last.
        charts: success rate against the ratio, one chart for each sparsity.
    """

    panel: str
    best: Cell
    natural: Cell | None
    cells: tuple[Cell, ...]
    charts: tuple[Chart, ...]


def waveform_cells(rows: pl.DataFrame) -> list[Cell]:
    """Lines of `page_cells` on the waveform, with the success in memory as well.

    `memory_asr`, `memory_asr_low` and `memory_asr_high` are the success rate before the round trip
    and its interval, over the same utterances as `asr`.

    Args:
        rows: the rows of the run.
    """
    import polars as pl

    rows = headline(rows)
    cells = page_cells(rows, "waveform")
    if cells.is_empty():
        return []
    right = rows.filter(pl.col("surface") == "waveform", "correct_before")
    before = right.with_columns(pl.col(IN_MEMORY).alias("success"))
    rates = success_rates(before, POOLED_COLUMNS, _MEMORY).drop("utterances", "flipped")
    return cells.join(
        rates, on=list(POOLED_COLUMNS), how="left", nulls_equal=True, maintain_order="left"
    ).to_dicts()


def waveform_panels(cells: Sequence[Cell]) -> list[WaveformPanel]:
    """One panel for each victim with a rated attack on the waveform, the weakest victim first.

    Args:
        cells: those of `waveform_cells`, with their `notes`.
    """
    panels = []
    for panel, group in grouped(cells, lambda cell: cell["panel"]):
        attacks = [cell for cell in group if cell["kind"] != CORRUPTION]
        natural = [cell for cell in group if cell["kind"] == CORRUPTION]
        here = _reference(attacks)
        best = strongest([cell for cell in here if cell["kind"] != "control"]) or strongest(here)
        if best is None:
            continue
        alike = [cell for cell in natural if cell["budget_snr"] in (None, best["budget_snr"])]
        ordered = tuple(sorted(attacks, key=_loudness)) + tuple(sorted(natural, key=_loudness))
        charts = tuple(_charts(panel, attacks, natural))
        panels.append(WaveformPanel(panel, best, strongest(alike), ordered, charts))
    return sorted(panels, key=lambda one: -one.best["asr"])


def measured(cells: Sequence[Cell]) -> list[str]:
    """The measures of audio quality that these cells have."""
    return [name for name in AUDIO_QUALITY if any(cell[name] is not None for cell in cells)]


def _budget(cell: Cell) -> tuple[Any, ...]:
    return cell["sparsity"], cell["epsilon"], cell["budget_snr"]


def _reference(attacks: Sequence[Cell]) -> list[Cell]:
    """The attacks at the budget at which their success rates differ most."""
    rated = [cell for cell in attacks if cell["asr"] is not None]
    levels = [level for _, level in grouped(rated, _budget)]

    def spread(level: list[Cell]) -> tuple[float, float]:
        rates = [cell["asr"] for cell in level]
        return max(rates) - min(rates), max(rates)

    return max(levels, key=spread, default=[])


def _loudness(cell: Cell) -> tuple[float, float, float]:
    """Orders cells by strength, and those of one strength by descending success."""
    ratio = cell["budget_snr"]
    strength = (cell["epsilon"] or 0.0) if ratio is None else -ratio
    return strength, cell["sparsity"] or 0.0, -(cell["asr"] or 0.0)


def _charts(panel: str, attacks: Sequence[Cell], natural: Sequence[Cell]) -> list[Chart]:
    """Success rate against the signal-to-noise ratio, where a run has several."""
    charts = []
    noise = [cell for cell in natural if cell["budget_snr"] is not None]
    for sparsity, some in grouped(attacks, lambda cell: cell["sparsity"]):
        group = [*(cell for cell in some if cell["budget_snr"] is not None), *noise]
        ratios = sorted({cell["budget_snr"] for cell in group})
        if len(ratios) < 2 or len(group) == len(noise):
            continue
        pad = 0.06 * (ratios[-1] - ratios[0])
        plot = Plot(
            x=(ratios[0] - pad, ratios[-1] + pad),
            y=(0.0, 1.0),
            x_ticks=[(ratio, f"{ratio:g}") for ratio in ratios],
            y_ticks=PERCENT_TICKS,
            x_title="least signal-to-noise ratio, dB",
            y_title="success rate after the round trip, %",
            label_room=LABEL_ROOM,
        )
        for line in lines_of(group, leading_methods(group)):
            line.sort(key=lambda cell: cell["budget_snr"])
            style = line[0]["kind"]
            points = [(cell["budget_snr"], cell["asr"]) for cell in line]
            plot.line(points, style, label=line_name(line[0]))
            for cell, (x, y) in zip(line, points, strict=True):
                plot.interval(x, cell["asr_low"], cell["asr_high"], style)
                plot.point(x, y, style, title=point_title(cell), href=f"#{cell['cell']}")
        title = f"{panel}, {share(sparsity)} of the samples"
        drawn = plot.svg(f"Success rate against the signal-to-noise ratio: {title}")
        charts.append(Chart(title, drawn, short_notes(group, "asr"), plot.names))
    return charts
