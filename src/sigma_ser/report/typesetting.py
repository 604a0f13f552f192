"""Tables of a paper as Markdown, CSV and LaTeX."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path

from sigma_ser.core.files import whole_file

from .paper_table import Entry, PaperTable, Style
from .tables import md, tex

FORMATS: tuple[str, ...] = ("md", "csv", "tex")
# The greek letter in LaTeX and in text.
_SYMBOLS = (("epsilon", r"$\varepsilon$", "ε"), ("k =", "$k$ =", "k ="))
_COMMANDS: dict[str, str] = {
    "σ": r"\sigma", "λ": r"\lambda", "μ": r"\mu", "×": r"\times", "·": r"\cdot",
}  # fmt: skip


def typeset(table: PaperTable, form: str) -> str:
    """A table as `md` (Markdown), `csv` or `tex` (LaTeX, needs the package booktabs)."""
    match form:
        case "md":
            return markdown(table)
        case "csv":
            return comma_separated(table)
        case _:
            return latex(table)


def markdown(table: PaperTable) -> str:
    """A Markdown table under its caption; the best figures of a section are bold."""
    headings = [f"{group}, {heading}" if group else heading for group, heading in table.columns]
    headings = [_greek(one, 2) for one in headings]
    sections = any(line.section for line in table.lines)
    leading = [*([table.section] if sections else []), *table.names]
    lines = [[*leading, *headings], ["---"] * len(leading) + ["--:"] * len(headings)]
    for line in table.lines:
        figures = [
            f"**{text}**" if entry.best else text
            for entry, style in zip(line.entries, table.styles, strict=True)
            for text in [_figure(entry, style)]
        ]
        names = [*([line.section] if sections else []), *line.names]
        lines.append([*(md(name) for name in names), *figures])
    body = "".join(f"| {' | '.join(line)} |\n" for line in lines)
    return f"{_greek(table.caption, 2)}.\n\n{body}"


def comma_separated(table: PaperTable) -> str:
    """One line for each figure: section, names, group, column, value, low, high, best.

    Rates are fractions in [0, 1]; nothing is rounded.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["section", *(name.lower() for name in table.names), "group", "column",
                     "value", "low", "high", "best"])  # fmt: skip
    for line in table.lines:
        for (group, heading), entry in zip(table.columns, line.entries, strict=True):
            figures = ("" if one is None else repr(one) for one in (entry.value, entry.low,
                                                                   entry.high))  # fmt: skip
            best = str(entry.best).lower()
            writer.writerow([line.section, *line.names, group, heading, *figures, best])
    return text.getvalue()


def latex(table: PaperTable) -> str:
    """A `table` environment with booktabs rules; the best figures of a section are bold.

    A figure with an interval takes two columns, so that figures are aligned at their last digit.
    """
    leading = len(table.names)
    paired = [
        any(line.entries[place].low is not None for line in table.lines)
        for place in range(len(table.columns))
    ]
    sizes = [2 if pair else 1 for pair in paired]
    wide = "*" if sum(sizes) > 5 or table.widths else ""
    broken = [rf">{{\raggedright\arraybackslash}}p{{{one:g}\textwidth}}" for one in table.widths]
    names = "".join(broken) or "l" * leading
    figures = "".join("r@{~}l" if pair else "r" for pair in paired)
    marked = any(entry.best for line in table.lines for entry in line.entries)
    bold = " Bold: the best of a section, ties included." if marked else ""
    headings = [tex(name) for name in table.names]
    for size, (_, heading) in zip(sizes, table.columns, strict=True):
        headings.append(_across(size, _tex(heading)))
    lines = [
        rf"\begin{{table{wide}}}",
        r"\centering\footnotesize" if sum(sizes) > 8 else r"\centering\small",
        rf"\caption{{{_tex(table.caption)}.{bold}}}",
        rf"\label{{tab:{table.name}}}",
        r"\setlength{\tabcolsep}{4pt}",
        rf"\begin{{tabular}}{{{names}{figures}}}",
        r"\toprule",
        *_group_lines(table, sizes),
        " & ".join(headings) + r" \\",
        r"\midrule",
    ]
    section = None
    for line in table.lines:
        if line.section != section:
            lines += [r"\midrule"] if section is not None else []
            section = line.section
            if section:
                lines += [
                    _across(leading + sum(sizes), rf"\textit{{{_tex(section)}}}", "l") + r" \\"
                ]
        elif table.widths:
            lines += [r"\addlinespace"]
        texts = [_name(name) for name in line.names]
        for entry, style, pair in zip(line.entries, table.styles, paired, strict=True):
            value, _, interval = (tex(one) for one in _figure(entry, style).partition(" "))
            texts.append(rf"\textbf{{{value}}}" if entry.best else value)
            texts += [interval] if pair else []
        lines.append(" & ".join(texts) + r" \\")
    lines += [r"\bottomrule", r"\end{tabular}", rf"\end{{table{wide}}}", ""]
    return "\n".join(lines).replace("–", "--").replace("−", "$-$")


def _group_lines(table: PaperTable, sizes: Sequence[int]) -> list[str]:
    """The line of the groups of columns and the rules below them; none without a group."""
    head, rules, place = [""] * len(table.names), [], len(table.names) + 1
    columns = zip(table.columns, sizes, strict=True)
    for group, same in groupby(columns, lambda column: column[0][0]):
        size = sum(one for _, one in same)
        head.append(_across(size, _tex(group)))
        if group:
            rules.append(rf"\cmidrule(lr){{{place}-{place + size - 1}}}")
        place += size
    return [" & ".join(head) + r" \\", " ".join(rules)] if rules else []


def _across(size: int, text: str, align: str = "c") -> str:
    return rf"\multicolumn{{{size}}}{{{align}}}{{{text}}}" if size > 1 else text


def write_paper_tables(
    folder: Path, tables: Sequence[PaperTable], forms: Sequence[str] = FORMATS
) -> list[Path]:
    """Write each table in each form, and `preview.tex`, a document that shows them.

    Args:
        folder: receives `<name>.<form>`.
        tables: of `paper_tables`.
        forms: of `FORMATS`.

    Returns:
        The paths of the files.
    """
    texts = {f"{table.name}.{form}": typeset(table, form) for table in tables for form in forms}
    if "tex" in forms:
        texts["preview.tex"] = _preview([table.name for table in tables])
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in texts.items():
        with whole_file(folder / name) as aside:
            aside.write_text(text, "utf-8")
    return [folder / name for name in texts]


def _preview(names: Sequence[str]) -> str:
    inputs = "\n".join(rf"\input{{{name}.tex}}" for name in names)
    return (
        "\\documentclass[10pt]{article}\n\\usepackage[a4paper,landscape,margin=15mm]{geometry}\n"
        f"\\usepackage{{array,booktabs}}\n\\begin{{document}}\n{inputs}\n\\end{{document}}\n"
    )


def _figure(entry: Entry, style: Style) -> str:
    """A figure as text."""
    if entry.value is None:
        return "–"
    match style:
        case "rate":
            text = f"{100 * entry.value:.1f}"
            if entry.low is None or entry.high is None:
                return text
            return f"{text} [{100 * entry.low:.0f}, {100 * entry.high:.0f}]"
        case "count":
            return f"{entry.value:.0f}" if entry.value >= 100 else f"{entry.value:.3g}"
        case _:
            digits = 3 if style == "fine" else 2
            text = f"{entry.value:.{digits}f}"
            if entry.low is not None and entry.high is not None:
                text += f" [{entry.low:.{digits}f}, {entry.high:.{digits}f}]"
            return text.replace("-", "−")


def _name(text: str) -> str:
    """A name in LaTeX; the budget `k` of masks is a symbol."""
    parts = text.rpartition(" ")
    return _tex(parts[0] + parts[1]) + "$k$" if parts[2] == "k" else _tex(text)


def _tex(text: str) -> str:
    written = _greek(tex(text.replace("\u202f", "~")).replace(r"\textasciitilde{}", "~"), 1)
    for symbol, command in _COMMANDS.items():
        written = written.replace(symbol, f"${command}$")
    return written


def _greek(text: str, form: int) -> str:
    for word, *written in _SYMBOLS:
        text = text.replace(word, written[form - 1])
    return text
