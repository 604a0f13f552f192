"""The head of the page: its title, and the chart that compares all models of the run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from .cells import Cell, strongest
from .findings import Finding
from .inputs import ReportInputs
from .waveform import WaveformPanel

_MOST_NAMES = 3
MOST_LINES = 16
ROLES: dict[str, tuple[str, str]] = {
    "native": ("native", "strongest without a mask"),
    "scope": ("scope", "strongest in a larger mask from an explanation"),
    "mask": ("mask", "strongest in a mask of k values from an explanation"),
    "random-mask": ("control", "the masked attack in a random mask"),
    "random-change": ("hollow", "random change"),
    "corruption": ("corruption", "natural corruption"),
}
"""Roles in the chart: the style of the mark, and its text in the legend."""


@dataclass(frozen=True)
class HeadlineLine:
    """One model in the chart.

    Attributes:
        panel: its name.
        best: the strongest attack, whose figures stand beside the marks.
        marks: role and cell of each mark, the weakest first.
    """

    panel: str
    best: Cell
    marks: tuple[tuple[str, Cell], ...]


def heading(inputs: ReportInputs, panels: Sequence[str]) -> str:
    """The title of the page: that of the study, or one made from the models and the corpus.

    Args:
        inputs: the results of the run.
        panels: names of the attacked models.
    """
    if inputs.title:
        return inputs.title
    named = list(dict.fromkeys(panels))
    if not named:
        return inputs.name
    corpus = inputs.corpus_card.get("title") or inputs.corpus_card.get("name")
    models = joined(named) if len(named) <= _MOST_NAMES else f"{len(named)} models"
    return f"Attacks on {models}" + (f", tested on {corpus}" if corpus else "")


def joined(names: Sequence[str]) -> str:
    """Names as a list in words.

    >>> joined(["mlp", "bilstm", "cnn"])
    'mlp, bilstm and cnn'
    """
    *first, last = names
    return f"{', '.join(first)} and {last}" if first else last


def headline_lines(findings: Sequence[Finding], cells: Sequence[Cell]) -> list[HeadlineLine]:
    """The chart of attacks on the features, one line for each finding.

    Args:
        findings: of the reference budget.
        cells: of the same budget.
    """
    lines = []
    for found in findings:
        here = [cell for cell in cells if cell["panel"] == found.panel]
        changes = [c for c in here if c["attack"] == "random" and c["explainer"] is None]
        marks = [
            ("native", found.native),
            (found.masked["kind"] if found.masked else "scope", found.masked),
            ("random-mask", found.random_mask),
            ("random-change", strongest(changes)),
        ]
        lines.append(_line(found.panel, found.best, marks))
    return lines


def waveform_lines(panels: Sequence[WaveformPanel]) -> list[HeadlineLine]:
    """The chart of attacks on the waveform, at the budget of the strongest attack."""
    lines = []
    for one in panels:
        budget = ("sparsity", "epsilon", "budget_snr")
        here = [c for c in one.cells if all(c[name] == one.best[name] for name in budget)]
        attacks = {
            kind: strongest([c for c in here if c["kind"] == kind and c["attack"] != "random"])
            for kind in ("native", "scope", "mask")
        }
        changes = [c for c in here if c["attack"] == "random" and c["explainer"] is None]
        marks = [
            *attacks.items(),
            ("random-change", strongest(changes)),
            ("corruption", one.natural),
        ]
        lines.append(_line(one.panel, one.best, marks))
    return lines


def roles_of(lines: Sequence[HeadlineLine]) -> dict[str, str]:
    """Style and text of the marks that occur in some lines, for the legend."""
    present = {role for line in lines for role, _ in line.marks}
    return {style: text for role, (style, text) in ROLES.items() if role in present}


def _line(panel: str, best: Cell, marks: Sequence[tuple[str, Any]]) -> HeadlineLine:
    known = [(role, cell) for role, cell in marks if cell is not None and cell["asr"] is not None]
    return HeadlineLine(panel, best, tuple(sorted(known, key=lambda mark: mark[1]["asr"])))
