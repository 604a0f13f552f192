"""Tables for papers and spreadsheets: CSV with all columns, Markdown and LaTeX."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sigma_ser.core.files import whole_file
from sigma_ser.evaluate.notes import Note, NoteIndex
from sigma_ser.evaluate.summary import summarise

from .cells import Budgets, Cell, at_budget
from .comparison import against_best

if TYPE_CHECKING:
    import polars as pl

_COLUMNS: tuple[tuple[str, str, int], ...] = (
    ("topk_intersection", "Top-k overlap", 2),
    ("spearman", "Spearman", 2),
    ("cosine", "Cosine", 2),
    ("passes_total", "Passes", 1),
)
_NONE: Mapping[str, float] = {}
# CommonMark 2.4: a backslash before ASCII punctuation makes it plain text. Characters that have a
# meaning at the start of a line only are left alone.
_MD_SPECIAL = re.compile(r"([\\`*_{}\[\]<>|~#$&!])")
_TEX_ESCAPES = str.maketrans({
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_",
    "{": r"\{", "}": r"\}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}",
    "×": r"$\times$", "·": r"$\cdot$", "<": r"\textless{}", ">": r"\textgreater{}",
})  # fmt: skip


def write_tables(
    folder: Path,
    rows: pl.DataFrame,
    cells: pl.DataFrame,
    budgets: Budgets,
    *,
    victims: Sequence[Mapping[str, Any]] = (),
    leakage: Sequence[Mapping[str, Any]] = (),
    notes: NoteIndex | None = None,
) -> None:
    """Write the tables of a run.

    `cells.csv`, `cells_by_fold.csv`, `victims.csv` and `leakage.csv` hold all numbers; rates are
    fractions in [0, 1]. `results.md` and `results.tex` (which needs the LaTeX package booktabs)
    hold the results at the reference budget, with rates in per cent and their 95 % interval. The
    best success rate of each victim is bold; `p` is the p-value of the difference to it.
    `cells.csv` and these two name the degenerate measurements of each cell.
    """
    import polars as pl

    named = [_codes(notes.of(cell)) if notes else "" for cell in cells.iter_rows(named=True)]
    _csv(folder / "cells.csv", cells.with_columns(pl.Series("notes", named, pl.String)))
    _csv(folder / "cells_by_fold.csv", summarise(rows))
    for name, lines in (("victims", victims), ("leakage", leakage)):
        if lines:
            # Nested values (class_names, confusion ...) cannot be written to a CSV cell.
            plain = [
                {k: v for k, v in line.items() if not isinstance(v, list | dict)} for line in lines
            ]
            _csv(folder / f"{name}.csv", pl.DataFrame(plain, infer_schema_length=None))
    features = cells.filter(pl.col("surface").ne_missing(pl.lit("waveform")))
    here = at_budget(features, budgets.reference).to_dicts() if budgets.reference else []
    for cell in here:
        cell["notes"] = notes.of(cell) if notes else []
    p_values = against_best(rows, here)
    texts = {"results.md": markdown(here, p_values), "results.tex": latex(here, p_values)}
    for name, text in texts.items():
        with whole_file(folder / name) as aside:
            aside.write_text(text, "utf-8")


def markdown(cells: Sequence[Cell], p_values: Mapping[str, float] = _NONE) -> str:
    """The cells of one budget as a Markdown table."""
    columns = _measured(cells)
    heading = ["Victim", "Attack", "ASR, % [95 %]", "p", *(title for _, title, _ in columns)]
    noted = any(cell.get("notes") for cell in cells)
    rule = ["---", "---", *("--:" for _ in heading[2:])]
    lines = [[*heading, "Notes"], [*rule, "---"]] if noted else [heading, rule]
    for cell, best in _marked(cells):
        rate = f"**{_rate(cell)}**" if best else _rate(cell)
        name, method = (md(str(cell[key])) for key in ("panel", "method"))
        remarks = [md(_codes(cell["notes"], ", "))] if noted else []
        lines.append([name, method, rate, _p(cell, p_values), *_numbers(cell, columns), *remarks])
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def latex(cells: Sequence[Cell], p_values: Mapping[str, float] = _NONE) -> str:
    """The cells of one budget as a LaTeX table with booktabs rules."""
    columns = _measured(cells)
    heading = ["Victim", "Attack", r"ASR, \% [95\,\%]", "$p$", *(title for _, title, _ in columns)]
    noted = any(cell.get("notes") for cell in cells)
    extra = "l" if noted else ""
    lines = [rf"\begin{{tabular}}{{ll{'r' * (len(heading) - 2)}{extra}}}", r"\toprule"]
    lines += [" & ".join([*heading, *(["Notes"] if noted else [])]) + r" \\", r"\midrule"]
    panel = None
    for cell, best in _marked(cells):
        if panel not in (None, cell["panel"]):
            lines.append(r"\midrule")
        name = tex(str(cell["panel"])) if panel != cell["panel"] else ""
        panel = cell["panel"]
        rate = rf"\textbf{{{_rate(cell)}}}" if best else _rate(cell)
        p_value = _p(cell, p_values).replace("<", "$<$")
        numbers = [tex(cell["method"]), rate, p_value, *_numbers(cell, columns)]
        numbers += [tex(_codes(cell["notes"], ", "))] if noted else []
        lines.append(" & ".join([name, *numbers]) + r" \\")
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}", ""])


def tex(text: str) -> str:
    """Text with LaTeX's special characters escaped.

    >>> tex("50 % of a_b")
    '50 \\\\% of a\\\\_b'
    """
    return text.translate(_TEX_ESCAPES)


def md(text: str) -> str:
    """Text for a cell of a Markdown table, with the special characters of Markdown escaped.

    >>> md("a|b *c* <d>")
    'a\\\\|b \\\\*c\\\\* \\\\<d\\\\>'
    """
    return _MD_SPECIAL.sub(r"\\\1", " ".join(text.split()))


def _codes(notes: Sequence[Note], separator: str = " ") -> str:
    return separator.join(dict.fromkeys(note["code"] for note in notes))


def _csv(path: Path, frame: pl.DataFrame) -> None:
    with whole_file(path) as aside:
        frame.write_csv(aside)


def _measured(cells: Sequence[Cell]) -> list[tuple[str, str, int]]:
    return [c for c in _COLUMNS if any(cell[c[0]] is not None for cell in cells)]


def _marked(cells: Sequence[Cell]) -> list[tuple[Cell, bool]]:
    """Cells by panel in descending order of success; the flag marks the best of each panel."""
    rated = sorted(cells, key=lambda cell: (cell["panel"], -(cell["asr"] or 0.0)))
    best = {
        panel: max((c["asr"] or 0.0 for c in rated if c["panel"] == panel), default=0.0)
        for panel in {cell["panel"] for cell in rated}
    }
    return [(cell, bool(cell["asr"]) and cell["asr"] == best[cell["panel"]]) for cell in rated]


def _rate(cell: Cell) -> str:
    if cell["asr"] is None:
        return "–"
    return f"{100 * cell['asr']:.1f} [{100 * cell['asr_low']:.1f}, {100 * cell['asr_high']:.1f}]"


def _p(cell: Cell, p_values: Mapping[str, float]) -> str:
    value = p_values.get(cell["cell"])
    return "–" if value is None else "<0.001" if value < 0.001 else f"{value:.3f}"


def _numbers(cell: Cell, columns: Sequence[tuple[str, str, int]]) -> list[str]:
    return ["–" if cell[key] is None else f"{cell[key]:.{digits}f}" for key, _, digits in columns]
