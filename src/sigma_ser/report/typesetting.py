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
    """A `table` environment with booktabs rules; the best figures of a section are bold."""
    leading, figures = len(table.names), len(table.columns)
    wide = "*" if figures > 5 or table.widths else ""
    broken = [rf">{{\raggedright\arraybackslash}}p{{{one:g}\textwidth}}" for one in table.widths]
    names = "".join(broken) or "l" * leading
    groups = [(group, len(list(same))) for group, same in groupby(table.columns, lambda c: c[0])]
    head, rules, place = [""] * leading, [], leading + 1
    for group, size in groups:
        head.append(rf"\multicolumn{{{size}}}{{c}}{{{_tex(group)}}}" if size > 1 else _tex(group))
        if group:
            rules.append(rf"\cmidrule(lr){{{place}-{place + size - 1}}}")
        place += size
    marked = any(entry.best for line in table.lines for entry in line.entries)
    bold = " Bold: the best of a section, ties included." if marked else ""
    lines = [
        rf"\begin{{table{wide}}}",
        r"\centering\small",
        rf"\caption{{{_tex(table.caption)}.{bold}}}",
        rf"\label{{tab:{table.name}}}",
        r"\setlength{\tabcolsep}{4pt}",
        rf"\begin{{tabular}}{{{names}{'r' * figures}}}",
        r"\toprule",
    ]
    if any(group for group, _ in groups):
        lines += [" & ".join(head) + r" \\", " ".join(rules)]
    headings = [*(tex(name) for name in table.names), *(_tex(one) for _, one in table.columns)]
    lines += [" & ".join(headings) + r" \\", r"\midrule"]
    section = None
    for line in table.lines:
        if line.section != section:
            lines += [r"\midrule"] if section is not None else []
            section = line.section
            if section:
                title = rf"\multicolumn{{{leading + figures}}}{{l}}{{\textit{{{_tex(section)}}}}}"
                lines += [title + r" \\"]
        texts = [
            rf"\textbf{{{tex(text)}}}" if entry.best else tex(text)
            for entry, style in zip(line.entries, table.styles, strict=True)
            for text in [_figure(entry, style)]
        ]
        lines.append(" & ".join([*(_tex(name) for name in line.names), *texts]) + r" \\")
    lines += [r"\bottomrule", r"\end{tabular}", rf"\end{{table{wide}}}", ""]
    return "\n".join(lines).replace("–", "--")


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
            text = f"{entry.value:.2f}"
            if entry.low is None or entry.high is None:
                return text
            return f"{text} [{entry.low:.2f}, {entry.high:.2f}]"


def _tex(text: str) -> str:
    return _greek(tex(text.replace("\u202f", "~")).replace(r"\textasciitilde{}", "~"), 1)


def _greek(text: str, form: int) -> str:
    for word, *written in _SYMBOLS:
        text = text.replace(word, written[form - 1])
    return text.replace("σ", r"$\sigma$") if form == 1 else text
