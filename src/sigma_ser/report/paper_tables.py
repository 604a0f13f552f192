"""The tables of a paper as values: success, consistency, transfer, cost, claims, alarms."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from sigma_ser.core.errors import RunError
from sigma_ser.core.rows import CONSISTENCY_METRICS
from sigma_ser.evaluate.cost import shared_masks
from sigma_ser.evaluate.transfer import mask_transfer

from .alarms import alarm_paper_table
from .cells import SETTING, Cell, budgets_of, page_cells
from .claim_table import claim_table
from .display_names import FREE, attack_name, display_name, mask_size, method_names
from .formats import budget_text
from .paper_table import Entry, Line, PaperTable, Style

if TYPE_CHECKING:
    import polars as pl

TABLES: tuple[str, ...] = ("success", "consistency", "transfer", "cost", "claims", "alarm")
_Place = tuple[str, float, float]


def paper_tables(
    rows: pl.DataFrame,
    names: Sequence[str] = TABLES,
    *,
    metric: str = "cosine",
    budget: tuple[float, float] | None = None,
    detections: pl.DataFrame | None = None,
) -> list[PaperTable]:
    """The tables of a run; those without a line are left out.

    Args:
        rows: the columns of `core.rows`.
        names: of `TABLES`.
        metric: of `core.rows.CONSISTENCY_METRICS`, for `consistency`.
        budget: sparsity and epsilon of `transfer`, `cost` and `alarm`; by default the budget at
            which the attacks differ most.
        detections: figures of the alarms, of `evaluate.alarm.alarm_table`.

    Raises:
        RunError: if a name, the metric or the budget is not one of the run.
    """
    unknown = [name for name in names if name not in TABLES]
    if unknown:
        raise RunError(f"there is no table {unknown[0]!r}; possible are {', '.join(TABLES)}")
    if metric not in CONSISTENCY_METRICS:
        raise RunError(
            f"there is no consistency measure {metric!r}; possible are "
            f"{', '.join(CONSISTENCY_METRICS)}"
        )
    cells = page_cells(rows)
    known = budgets_of(cells)
    if budget is not None and budget not in known.all:
        listed = "; ".join(f"{sparsity:g} and {epsilon:g}" for sparsity, epsilon in known.all)
        raise RunError(
            f"the run has no cell with sparsity {budget[0]:g} and epsilon {budget[1]:g}; it has "
            f"{listed}"
        )
    budget = budget or known.reference
    lines = [cell for cell in cells.to_dicts() if cell["sparsity"] is not None]
    made: dict[str, Callable[[], PaperTable | None]] = {
        "success": lambda: _over_budgets(
            "success",
            "Attack success rate in per cent, with its 95 % interval",
            lines,
            lambda cell: Entry(cell["asr"], cell["asr_low"], cell["asr_high"]),
            "rate",
        ),
        "consistency": lambda: _over_budgets(
            "consistency",
            f"Explanation consistency ({display_name(metric)}) before and after the attack",
            lines,
            lambda cell: Entry(cell[metric]),
            "decimal",
        ),
        "transfer": lambda: _transfer(rows, budget),
        "cost": lambda: _cost(rows, budget),
        "claims": lambda: claim_table(rows),
        "alarm": lambda: alarm_paper_table(detections, budget),
    }
    found = (made[name]() for name in dict.fromkeys(names))
    return [table for table in found if table is not None]


def _over_budgets(
    name: str,
    caption: str,
    cells: Sequence[Cell],
    entry: Callable[[Cell], Entry],
    style: Style,
) -> PaperTable | None:
    """Methods as lines, budgets as columns, one section for each victim."""
    budgets = sorted({_place(cell) for cell in cells})
    found: dict[tuple[str, tuple[str, ...], bool], dict[_Place, Entry]] = {}
    for cell in cells:
        method = cell["panel"], method_names(cell, cells), cell["kind"] == "control"
        found.setdefault(method, {})[_place(cell)] = entry(cell)
    lines = [
        Line(panel, method, tuple(entries.get(one, Entry(None)) for one in budgets), control)
        for (panel, method, control), entries in found.items()
        if any(one.value is not None for one in entries.values())
    ]
    columns = tuple(
        (f"{bound} = {abs(value):g}{unit}", f"k = {100 * sparsity:.3g} %")
        for bound, value, sparsity in budgets
        for unit in [" dB" if bound == "SNR" else ""]
    )
    return _table(name, caption, ("Attack", "Explanation", "Mask"), columns, lines, style=style)


def _place(cell: Cell) -> _Place:
    """Kind and size of the bound, and sparsity, in the order of the columns."""
    if cell["epsilon"] is None:
        return "SNR", -float(cell["budget_snr"]), cell["sparsity"]
    return "epsilon", cell["epsilon"], cell["sparsity"]


def _transfer(rows: pl.DataFrame, budget: tuple[float, float] | None) -> PaperTable | None:
    """Sources of masks as lines, attacked victims as columns, one section for each method."""
    table = _at(mask_transfer(rows), budget)
    if table.is_empty():
        return None
    targets = sorted(table["target_victim"].unique())
    varying = [name for name in SETTING if table[name].n_unique() > 1]
    lines: list[Line] = []
    by = [*varying, "attack", "attack_settings", "explainer", "scope"]
    every = table.select("attack", "attack_settings").unique(maintain_order=True).to_dicts()
    for group in table.partition_by(by, maintain_order=True):
        found = group.to_dicts()
        if all(one["source_victim"] == one["target_victim"] for one in found):
            continue
        first = found[0]
        section = " · ".join([
            f"{attack_name(first, every)} in {display_name(first['explainer'])}, "
            f"{mask_size(first['scope'])}",
            *(str(first[name]) for name in varying),
        ])  # fmt: skip
        native = {one["target_victim"]: Entry(one["native_asr"]) for one in found}
        for source in sorted({one["source_victim"] for one in found}):
            here = {one["target_victim"]: one for one in found if one["source_victim"] == source}
            lines.append(_line(section, source, targets, {
                target: Entry(one["asr"], one["asr_low"], one["asr_high"])
                for target, one in here.items()
            }))  # fmt: skip
        if any(one.value is not None for one in native.values()):
            lines.append(_line(section, FREE, targets, native, reference=True))
    caption = (
        "Attack success rate in per cent inside the masks of other victims "
        f"(lines: explained victim; columns: attacked victim), {_budget(budget)}"
    )
    columns = tuple(("attacked victim", one) for one in targets)
    table_of = _table("transfer", caption, ("Mask of",), columns, lines, style="rate")
    return table_of and dataclasses.replace(table_of, section="Attack")


def _line(
    section: str,
    name: str,
    targets: Sequence[str],
    entries: Mapping[str, Entry],
    *,
    reference: bool = False,
) -> Line:
    figures = tuple(entries.get(one, Entry(None)) for one in targets)
    return Line(section, (name,), figures, reference)


def _cost(rows: pl.DataFrame, budget: tuple[float, float] | None) -> PaperTable | None:
    """What one mask costs that several attacks and victims share, against native attacks."""
    figures: tuple[tuple[str, str, str, Style], ...] = (
        ("", "Uses", "uses", "count"),
        ("Passes", "explanation", "mask_passes", "count"),
        ("Passes", "attacks in the mask", "masked_passes", "count"),
        ("Passes", "attacks without", "native_passes", "count"),
        ("Passes", "ratio", "passes_ratio", "ratio"),
        ("", "Break-even uses", "break_even_passes", "count"),
    )
    table = _at(shared_masks(rows), budget)
    if table.is_empty():
        return None
    varying = [name for name in SETTING if table[name].n_unique() > 1]
    lines = [
        Line(
            " · ".join(str(one[name]) for name in varying),
            (display_name(one["explainer"]), one["source_victim"],
             mask_size(one["scope"])),
            tuple(Entry(one[key]) for _, _, key, _ in figures),
        )
        for one in table.to_dicts()
    ]  # fmt: skip
    caption = (
        "Cost of a mask that is computed once and shared, in passes for each utterance, all uses "
        f"together; ratio: with the mask / without, {_budget(budget)}"
    )
    columns = tuple((group, heading) for group, heading, _, _ in figures)
    styles = tuple(style for *_, style in figures)
    return PaperTable(
        "cost", caption, ("Explanation", "Mask of", "Mask"), columns, tuple(lines), styles
    )


def _table(
    name: str,
    caption: str,
    names: tuple[str, ...],
    columns: tuple[tuple[str, str], ...],
    lines: Sequence[Line],
    *,
    style: Style,
) -> PaperTable | None:
    """A table whose highest figures of each section and column are marked; ties are all marked."""
    if not lines:
        return None
    # Stable: sections keep the order in which they first occur.
    order = list(dict.fromkeys(line.section for line in lines))
    lines = sorted(lines, key=lambda line: order.index(line.section))
    marked = []
    for line in lines:
        rivals = [one for one in lines if one.section == line.section and not one.reference]
        entries = []
        for place, entry in enumerate(line.entries):
            values = [one.entries[place].value for one in rivals]
            top = max((value for value in values if value is not None), default=None)
            best = entry.value is not None and entry.value == top and not line.reference
            entries.append(dataclasses.replace(entry, best=best and len(rivals) > 1))
        marked.append(dataclasses.replace(line, entries=tuple(entries)))
    return PaperTable(name, caption, names, columns, tuple(marked), (style,) * len(columns))


def _at(table: pl.DataFrame, budget: tuple[float, float] | None) -> pl.DataFrame:
    import polars as pl

    if budget is None:
        return table.clear()
    return table.filter((pl.col("sparsity") == budget[0]) & (pl.col("epsilon") == budget[1]))


def _budget(budget: tuple[float, float] | None) -> str:
    assert budget is not None  # tables without a budget have no line
    values: tuple[Any, Any] = budget
    return budget_text(*values)
