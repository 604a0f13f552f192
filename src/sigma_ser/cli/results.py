"""Results of a finished study: tables on the terminal, or one JSON object."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from .terminal import result_console

if TYPE_CHECKING:
    import polars as pl

    from sigma_ser.evaluate.notes import NoteIndex
    from sigma_ser.study.run import Study

_VICTIM_FIELDS = ("name", "uar", "accuracy", "test_utterances")
_BUDGET = ("granularity", "sparsity", "epsilon", "budget_snr")
_NOTES = 3  # of one kind below a table
_ATTACK_FIELDS = (
    "surface", "victim", "attack", "explainer", "mask_source", "scope", "sparsity", "epsilon",
    "budget_snr", "utterances",
    "asr", "asr_low", "asr_high", "topk_intersection", "spearman", "cosine", "l0_share", "linf",
    "forwards", "backwards", "seconds",
)  # fmt: skip


def as_json(study: Study) -> str:
    """All results as one JSON object; rates are fractions in [0, 1]."""
    from sigma_ser.core.gradient_signs import masked_warnings
    from sigma_ser.evaluate.cost import shared_masks

    config = study.config
    cells = pooled(study)
    notes = notes_of(study)
    return json.dumps(
        {
            "corpus": ", ".join(section.name for section in config.corpus or ()),
            "encoder": ", ".join(section.name for section in config.encoder or ()),
            "victims": [
                {name: victim[name] for name in _VICTIM_FIELDS}
                | {"gradient_check": victim.get("gradient_check")}
                for victim in study.victims
            ],
            "warnings": masked_warnings(study.victims),
            "attacks": [
                {name: cell[name] for name in _ATTACK_FIELDS} | {"notes": codes(notes, cell)}
                for cell in cells.to_dicts()
            ],
            "notes": notes.lines,
            "shared_masks": shared_masks(study.rows).to_dicts(),
            "seconds": round(study.seconds, 3),
            "report": str(study.report),
        }
    )


def read_ids(path: Path) -> list[str]:
    """The JSON list of an option `--ids`.

    Raises:
        ConfigError: if the file is not a JSON list of strings.
    """
    from sigma_ser.core.errors import ConfigError
    from sigma_ser.core.json_text import parse_json

    try:
        names = parse_json(path.read_text("utf-8"))
    except (OSError, ValueError) as fault:
        raise ConfigError(f"--ids {path} cannot be read as a JSON list ({fault})") from fault
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise ConfigError(f"--ids {path} cannot be read as a JSON list of strings")
    return names


def notes_of(study: Study) -> NoteIndex:
    """Notes on the degenerate measurements of a study."""
    from sigma_ser.evaluate.notes import NoteIndex, degenerate

    return NoteIndex(degenerate(study.rows, study.victims))


def codes(notes: NoteIndex, cell: dict[str, Any]) -> list[str]:
    """Codes of the notes on a cell, each once."""
    return list(dict.fromkeys(note["code"] for note in notes.of(cell)))


def with_notes(sentence: str, notes: NoteIndex) -> str:
    """A sentence about a run, followed by the notes on its victims and budgets by short name."""
    from sigma_ser.evaluate.notes import CODES

    names = dict.fromkeys(CODES[one["code"]] for one in notes.lines if one["attack"] is None)
    return f"{sentence} Notes: {'; '.join(names)}." if names else sentence


def pooled(study: Study) -> pl.DataFrame:
    """One line per condition, pooled over all folds."""
    from sigma_ser.core.rows import CELL_COLUMNS
    from sigma_ser.evaluate.summary import summarise

    return summarise(study.rows, [name for name in CELL_COLUMNS if name != "fold"])


def print_tables(study: Study) -> None:
    """Print the victims, then one table per victim and budget, strongest attack first.

    Every line fits a terminal of 80 columns.
    """
    console = result_console()
    print_warnings(console, study)
    victims = Table("victim", "fold", "UAR", "95 % CI", "accuracy", "tested", box=box.SIMPLE)
    lines = [
        (
            victim["name"],
            victim["fold"],
            _percent(victim["uar"]),
            _interval(victim["uar_low"], victim["uar_high"]),
            _percent(victim["accuracy"]),
            str(victim["test_utterances"]),
        )
        for victim in study.victims
    ]
    # A victim that is attacked on both surfaces has the same scores on both.
    for line in dict.fromkeys(lines):
        victims.add_row(*line)
    console.print(victims)
    cells = pooled(study).sort(
        ["surface", "victim", "sparsity", "epsilon", "budget_snr", "asr"],
        descending=[False, False, False, False, True, True],
    )
    by = ["surface", "victim", *_BUDGET]
    notes = notes_of(study)
    for group in cells.partition_by(by, maintain_order=True):
        console.print(_heading(group.row(0, named=True)))
        console.print(_attacks(group))
        print_notes(console, notes, group.to_dicts())
    console.print(
        "ASR: attack success rate, the share of correctly classified utterances that are "
        "misclassified after the attack. overlap: share of the k most salient values that are "
        "still among the k most salient after the attack. passes: mean number of forward and "
        "backward passes per utterance, without the explanation that defines the mask. mask: "
        "native, the attack chooses which values change; otherwise the explanation that marks "
        "them, and x8 where it marks eight times as many as may change."
    )
    _print_shared(console, study.rows)
    console.print(f"Report: {study.report}", soft_wrap=True)


def print_criteria(record: Mapping[str, Any]) -> None:
    """Print the findings and the outcome of each criterion of an audit."""
    console = result_console()
    for finding in record["findings"]:
        console.print(f"[bold]{finding['code']}[/bold]: {escape(finding['text'])}")
    _print_corruptions(console, record)
    if not record["criteria"]:
        return
    table = Table("result", "criterion", "limit", "measured", "95 % CI", "n", box=box.SIMPLE)
    for line in record["criteria"]:
        known = line["measured"] is not None
        table.add_row(
            line["result"],
            escape(line["name"]),
            f"{line['direction']} {_percent(line['limit'])}",
            _percent(line["measured"]) if known else "-",
            _interval(line["low"], line["high"]) if known else "-",
            str(line["n"]),
        )
    console.print(table)
    for line in record["criteria"]:
        if line["reason"]:
            console.print(
                f"{line['result']}, {line['name']}: {line['reason']}", markup=False, highlight=False
            )


def _print_corruptions(console: Console, record: Mapping[str, Any]) -> None:
    """Print what natural corruptions get misclassified, the most harmful one first."""
    from sigma_ser.report.audit_sentences import natural_words

    if not record["corruptions"]:
        return
    table = Table("change without an attacker", "errors", "95 % CI", "n", box=box.SIMPLE)
    for line in record["corruptions"]:
        table.add_row(
            natural_words(line["corruption"], line["snr"]),
            _percent(line["rate"]),
            _interval(line["low"], line["high"]),
            str(line["n"]),
        )
    console.print(table)


def print_notes(console: Console, notes: NoteIndex, cells: Sequence[dict[str, Any]]) -> None:
    """Print the notes on the figures of a table, each once; many of one kind are counted."""
    found = {id(note): note for cell in cells for note in notes.of(cell)}.values()
    for code in dict.fromkeys(note["code"] for note in found):
        same = [note["text"] for note in found if note["code"] == code]
        for text in same[:_NOTES]:
            console.print(f"Note ({code}): {text}", markup=False, highlight=False)
        if len(same) > _NOTES:
            console.print(
                f"Note ({code}): {len(same) - _NOTES} further notes of this kind are in "
                "analysis/notes.csv.",
                markup=False,
                highlight=False,
            )


def print_warnings(console: Console, study: Study) -> None:
    """Print the warnings on masked gradients, before any rate."""
    from sigma_ser.core.gradient_signs import masked_warnings

    for warning in masked_warnings(study.victims):
        console.print(f"[bold red]Warning[/]: {escape(warning)}", soft_wrap=True)


def _print_shared(console: Console, rows: pl.DataFrame) -> None:
    """Print the cost of masks that several attacks or victims share, one table per budget."""
    from sigma_ser.evaluate.cost import shared_masks

    shared = shared_masks(rows)
    for group in shared.partition_by(["surface", *_BUDGET], maintain_order=True):
        budget = _budget(group.row(0, named=True))
        console.print(f"[bold]Cost of shared masks[/]: {budget}")
        table = Table("shared mask", box=box.SIMPLE, pad_edge=False)
        for heading in ("uses", "passes", "native", "even", "s", "native", "even"):
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
            "uses: number of attacks x victims. passes, s: passes and seconds per utterance of one "
            "explanation and all attacks inside its mask. native: the same attacks without a "
            "mask. even: number of uses from which the shared mask costs no more than that."
        )


def _amounts(line: dict[str, Any], unit: str, digits: int) -> tuple[str, str, str]:
    """Cost of a shared mask, cost without a mask, and break-even number of uses.

    Costs that were not measured are shown as n/a.
    """
    shared, native, uses = (line[f"{part}_{unit}"] for part in ("once", "native", "break_even"))
    if shared is None:
        return "n/a", f"{native:.{digits}f}", "n/a"
    even = "never" if uses is None else f"{uses:.0f}"
    return f"{shared:.{digits}f}", f"{native:.{digits}f}", even


def _heading(cell: dict[str, Any]) -> str:
    return f"[bold]{cell['victim']}[/], {cell['utterances']} utterances: {_budget(cell)}"


def _budget(cell: dict[str, Any]) -> str:
    if cell["granularity"] is None:
        snr = "" if cell["budget_snr"] is None else f" at {cell['budget_snr']:g} dB"
        return f"waveform, natural corruptions{snr}"
    whole = "" if cell["granularity"] == "element" else f", in whole {cell['granularity']}s"
    share = f"{100 * cell['sparsity']:g} % of the"
    if cell["surface"] == "features":
        return f"{share} values{whole}, each changed by at most {cell['epsilon']:g} SD"
    if cell["epsilon"] is None:
        return f"{share} samples{whole}, at {cell['budget_snr']:g} dB or more"
    return f"{share} samples{whole}, each changed by at most {cell['epsilon']:g} of full scale"


def _attacks(cells: pl.DataFrame) -> Table:
    """The attacks of one victim at one budget."""
    table = Table("attack", "mask", box=box.SIMPLE, pad_edge=False)
    table.columns[1].min_width = 24
    for heading in ("ASR", "95 % CI", "overlap", "passes"):
        table.add_column(heading, justify="right", no_wrap=True)
    for cell in cells.iter_rows(named=True):
        table.add_row(
            cell["attack"],
            _mask(cell),
            _percent(cell["asr"]),
            _interval(cell["asr_low"], cell["asr_high"]),
            _fraction(cell["topk_intersection"]),
            # A corruption needs no pass.
            f"{cell['forwards'] + cell['backwards']:.0f}" if cell["forwards"] is not None else "-",
        )
    return table


def _mask(cell: dict[str, Any]) -> str:
    if cell["explainer"] is None:
        return "native"
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
