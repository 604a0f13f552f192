"""What a finished study says: a table for people, one JSON object for programs."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from rich import box
from rich.console import Console
from rich.table import Table

if TYPE_CHECKING:
    import polars as pl

    from sigma_ser.study.run import Study

_VICTIM_FIELDS = ("name", "uar", "accuracy", "test_utterances")
_ATTACK_FIELDS = (
    "victim", "attack", "explainer", "mask_source", "scope", "sparsity", "epsilon", "utterances",
    "asr", "asr_low", "asr_high", "topk_intersection", "spearman", "cosine", "l0_share", "linf",
    "forwards", "backwards", "seconds",
)  # fmt: skip


def as_json(study: Study) -> str:
    """Everything that was measured, as one JSON object; rates are fractions."""
    from sigma_ser.evaluate.cost import shared_masks

    config = study.config
    cells = pooled(study)
    return json.dumps(
        {
            "corpus": ", ".join(section.name for section in config.corpus),
            "encoder": ", ".join(section.name for section in config.encoder),
            "victims": [
                {name: victim[name] for name in _VICTIM_FIELDS} for victim in study.victims
            ],
            "attacks": [{name: cell[name] for name in _ATTACK_FIELDS} for cell in cells.to_dicts()],
            "shared_masks": shared_masks(study.rows).to_dicts(),
            "seconds": round(study.seconds, 3),
            "report": str(study.report),
        }
    )


def pooled(study: Study) -> pl.DataFrame:
    """One line for each condition, over all folds."""
    from sigma_ser.core.rows import CELL_COLUMNS
    from sigma_ser.evaluate.summary import summarise

    return summarise(study.rows, [name for name in CELL_COLUMNS if name != "fold"])


def print_tables(study: Study) -> None:
    """Print victims, then a table for each victim and budget, strongest attack first.

    Every line fits a terminal of 80 columns: a table that wraps is not read.
    """
    console = Console()
    victims = Table("victim", "fold", "UAR", "95 %", "accuracy", "tested", box=box.SIMPLE)
    for victim in study.victims:
        victims.add_row(
            victim["name"],
            victim["fold"],
            _percent(victim["uar"]),
            _interval(victim["uar_low"], victim["uar_high"]),
            _percent(victim["accuracy"]),
            str(victim["test_utterances"]),
        )
    console.print(victims)
    cells = pooled(study).sort(
        ["victim", "sparsity", "epsilon", "asr"], descending=[False, False, False, True]
    )
    by = ["victim", "granularity", "sparsity", "epsilon"]
    for group in cells.partition_by(by, maintain_order=True):
        console.print(_heading(group.row(0, named=True)))
        console.print(_attacks(group))
    console.print(
        "fooled: of the utterances recognised before. kept: what is left of the explanation, the "
        "share of its most salient values that stay so. passes: through the victim, a mean per "
        "utterance, without the explanation that made the mask."
    )
    _print_shared(console, study.rows)
    console.print(f"Report: {study.report}", soft_wrap=True)


def _print_shared(console: Console, rows: pl.DataFrame) -> None:
    """What masks cost that served several attacks or victims, a table for each budget."""
    from sigma_ser.evaluate.cost import shared_masks

    shared = shared_masks(rows)
    for group in shared.partition_by(["granularity", "sparsity", "epsilon"], maintain_order=True):
        told = _budget(group.row(0, named=True))
        console.print(f"[bold]One explanation for many[/]: {told}")
        table = Table("made once", box=box.SIMPLE, pad_edge=False)
        for heading in ("uses", "passes", "free", "pays", "s", "free", "pays"):
            table.add_column(heading, justify="right", no_wrap=True)
        for line in group.iter_rows(named=True):
            table.add_row(
                _mask(line | {"mask_source": line["source_victim"]}),
                f"{line['attacks']} x {line['victims']}",
                *_amounts(line, "passes", 0),
                *_amounts(line, "seconds", 2),
            )
        console.print(table)
    if len(shared):
        console.print(
            "uses: attacks x victims. passes, s: of the explanation, made once, and of all these "
            "attacks inside it, per utterance. free: of the same attacks, each with a free choice. "
            "pays: from how many uses on the explanation costs no more."
        )


def _amounts(line: dict[str, Any], unit: str, digits: int) -> tuple[str, str, str]:
    """Once, free, and from how many uses on once is no more; what no clock told is n/a."""
    once, free, uses = (line[f"{part}_{unit}"] for part in ("once", "native", "break_even"))
    if once is None:
        return "n/a", f"{free:.{digits}f}", "n/a"
    return f"{once:.{digits}f}", f"{free:.{digits}f}", "never" if uses is None else f"{uses:.0f}"


def _heading(cell: dict[str, Any]) -> str:
    return f"[bold]{cell['victim']}[/], {cell['utterances']} utterances: {_budget(cell)}"


def _budget(cell: dict[str, Any]) -> str:
    whole = "" if cell["granularity"] == "element" else f", in whole {cell['granularity']}s"
    return (
        f"{100 * cell['sparsity']:g} % of the values{whole}, each by at most "
        f"{cell['epsilon']:g} deviations"
    )


def _attacks(cells: pl.DataFrame) -> Table:
    """The attacks of one victim at one budget."""
    table = Table("attack", "inside", box=box.SIMPLE, pad_edge=False)
    table.columns[1].min_width = 24
    for heading in ("fooled", "95 %", "kept", "passes"):
        table.add_column(heading, justify="right", no_wrap=True)
    for cell in cells.iter_rows(named=True):
        table.add_row(
            cell["attack"],
            _mask(cell),
            _percent(cell["asr"]),
            _interval(cell["asr_low"], cell["asr_high"]),
            _fraction(cell["topk_intersection"]),
            f"{cell['forwards'] + cell['backwards']:.0f}",
        )
    return table


def _mask(cell: dict[str, Any]) -> str:
    if cell["explainer"] is None:
        return "free choice"
    source = "" if cell["mask_source"] == "own" else f" of {cell['mask_source']}"
    times = "" if cell["scope"] in (None, 1) else f" x{cell['scope']}"
    return f"{cell['explainer']}{source}{times}"


def _interval(low: float | None, high: float | None) -> str:
    if low is None or high is None:
        return "n/a"
    return f"{100 * low:.0f} to {100 * high:.0f} %"


def _percent(rate: float | None) -> str:
    return "n/a" if rate is None else f"{100 * rate:.0f} %"


def _fraction(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"
