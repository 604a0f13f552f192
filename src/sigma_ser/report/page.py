"""The page: one HTML file that needs no other file and no network."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.resources import files
from typing import Any

from markupsafe import Markup

from sigma_ser.core.rows import CONSISTENCY_METRICS

from . import wording
from .answer import by_emotion, confusion, findings, rows_of
from .cells import KINDS, Budgets, Cell, at_budget, budgets_of, page_cells
from .charts import METRICS, fronts, over_budget, scope_curves
from .explorer import heard_utterances
from .inputs import ReportInputs
from .svg import marker

_FILTERS = ("percent", "share", "decimal", "count", "duration")


def render_page(inputs: ReportInputs, *, audio: bool = True) -> str:
    """The page as text."""
    import jinja2

    # Names come from other people's files: everything is escaped, and what is undefined fails.
    environment = jinja2.Environment(
        autoescape=True,
        loader=jinja2.PackageLoader("sigma_ser.report"),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update({name: getattr(wording, name) for name in _FILTERS})
    environment.globals.update(budget_words=wording.budget_words, marker=marker)
    return environment.get_template("page.html").render(_context(inputs, audio=audio))


def _context(inputs: ReportInputs, *, audio: bool) -> dict[str, Any]:
    import sigma_ser

    frame = page_cells(inputs.rows)
    budgets = budgets_of(frame)
    cells = frame.to_dicts()
    here = at_budget(frame, budgets.reference).to_dicts() if budgets.reference else []
    found = findings(here)
    behind = {finding.panel: rows_of(inputs.rows, finding.best) for finding in found}
    measured = [m for m in METRICS if frame[m.name].is_not_null().any()]
    return {
        "name": inputs.name,
        "version": sigma_ser.__version__,
        "written": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "css": _asset("page.css"),
        "js": _asset("page.js"),
        "corpora": _names(cells, "corpus"),
        "encoders": _names(cells, "encoder"),
        "kinds": {kind: text for kind, text in KINDS.items() if kind in set(frame["kind"])},
        "cells": cells,
        "rows": len(inputs.rows),
        "budgets": budgets,
        "findings": found,
        "strengths": _strengths(here),
        "most_passes": max((cell["passes_total"] or 0 for cell in here), default=0),
        "budget_charts": over_budget(cells, budgets),
        "fronts": [(metric, fronts(cells, metric)) for metric in measured],
        "scope_charts": scope_curves(here),
        "emotions": {panel: by_emotion(rows) for panel, rows in behind.items()},
        "confusions": {
            panel: (confusion(rows, "prediction_before"), confusion(rows, "prediction_after"))
            for panel, rows in behind.items()
        },
        "metrics": [metric for metric in measured if metric.name in CONSISTENCY_METRICS],
        "heard": heard_utterances(inputs.exemplars, audio=audio),
        "victims": inputs.victims,
        "leakage": inputs.leakage,
        "cards": {
            "Corpus": inputs.corpus_card,
            "Encoder": inputs.encoder_card,
            "Environment": inputs.environment,
        },
        "study_text": inputs.study_text,
        "seconds": inputs.seconds,
        "other_budgets": _others(budgets),
    }


def _asset(name: str) -> Markup:
    return Markup(files("sigma_ser.report").joinpath("templates", name).read_text("utf-8"))


def _names(cells: Sequence[Cell], column: str) -> str:
    return ", ".join(sorted({cell[column] for cell in cells if cell[column] is not None}))


def _strengths(cells: Sequence[Cell]) -> dict[str, list[Cell]]:
    """The rated cells of each panel, the strongest first."""
    panels: dict[str, list[Cell]] = {}
    for cell in sorted(cells, key=lambda c: -(c["asr"] or 0.0)):
        if cell["asr"] is not None:
            panels.setdefault(cell["panel"], []).append(cell)
    return dict(sorted(panels.items()))


def _others(budgets: Budgets) -> int:
    return max(len(budgets.all) - 1, 0)
