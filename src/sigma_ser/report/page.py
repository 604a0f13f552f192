"""The page: one HTML file that needs no other file and no network."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from markupsafe import Markup

from sigma_ser.core.gradient_signs import masked_warnings
from sigma_ser.evaluate.notes import CODES, ENOUGH, Note, is_about

from . import formats
from .alarms import ALARMS, alarm_panels
from .cells import KINDS, Cell, at_budget, budgets_of, page_cells
from .certificates import bracket_charts, brackets
from .charts import METRICS, fronts, over_budget, scope_curves
from .comparison import against_best, break_even, shared_mask_costs, transfers
from .explorer import utterance_views
from .explorer_data import embedded_rows
from .findings import Finding, by_emotion, confusion, findings, rows_of
from .headline import MOST_LINES, ROLES, heading, headline_lines, roles_of, waveform_lines
from .inputs import ReportInputs
from .lines import by_strength
from .readable import fact, readable, without_paths
from .replays import replay_matrices
from .result_table import table_headings, table_rows
from .setting_words import setting_words
from .svg import marker
from .waveform import WaveformPanel, waveform_cells, waveform_panels

if TYPE_CHECKING:
    import polars as pl

_MOST_REPAIRS = 10
_MOST_NAMED = 3
# A line takes about 1.5 kB of the page.
_MOST_CELLS = 3000
_SCRIPTS = ("single_results.js", "explorer.js", "sounds.js")
_FILTERS = ("percent", "share", "decimal", "count", "duration")


def render_page(inputs: ReportInputs, *, audio: bool | None = None) -> str:
    """The page of a run, as text.

    Args:
        inputs: results of the run.
        audio: embed the sounds of the exemplars; `None` decides by `ReportInputs.embeds_sounds`.
    """
    return render("page.html", _context(readable(inputs), audio=audio))


def render(template: str, values: dict[str, Any]) -> str:
    """A filled-in template of this package, with style sheet, script, version and date."""
    import jinja2

    import sigma_ser

    # Names come from other people's files: everything is escaped, and what is undefined fails.
    environment = jinja2.Environment(
        autoescape=True,
        loader=jinja2.PackageLoader("sigma_ser.report"),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update({name: getattr(formats, name) for name in _FILTERS})
    environment.filters.update(fact=fact, without_paths=without_paths)
    environment.globals.update(
        budget_text=formats.budget_text,
        cell_budget=formats.cell_budget,
        strength_text=formats.strength_text,
        marker=marker,
        infinity=math.inf,
        version=sigma_ser.__version__,
        written=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        css=asset("page.css"),
        js=asset("page.js"),
    )
    return environment.get_template(template).render(values)


def _context(inputs: ReportInputs, *, audio: bool | None) -> dict[str, Any]:
    sounds = inputs.embeds_sounds if audio is None else audio
    frame = page_cells(inputs.rows, "features")
    budgets = budgets_of(frame)
    here = at_budget(frame, budgets.reference).to_dicts() if budgets.reference else []
    found = findings(here)
    cells = _shown(frame.to_dicts(), here, [finding.panel for finding in found])
    for cell in (*here, *cells):
        cell["notes"] = inputs.notes.of(cell)
    waves = waveform_cells(inputs.rows)
    for cell in waves:
        cell["notes"] = inputs.notes.of(cell)
    panels = waveform_panels(waves)
    listed = [*cells, *_apart(waves, cells)][:_MOST_CELLS]
    behind = {finding.panel: rows_of(inputs.rows, finding.best) for finding in found}
    measured = [m for m in METRICS if frame[m.name].is_not_null().any()]
    embedded = embedded_rows(inputs.rows, listed, inputs.changes)
    bounds = brackets(inputs.rows, inputs.certificates)
    return {
        "title": heading(inputs, [*(one.panel for one in found), *(one.panel for one in panels)]),
        "study": inputs.name,
        **_lead(found, panels, here),
        "gradient_warnings": masked_warnings(inputs.victims),
        "corpora": _names(listed, "corpus"),
        "encoders": _names(listed, "encoder"),
        "kinds": {kind: text for kind, text in KINDS.items() if kind in set(frame["kind"])},
        "rows": len(inputs.rows),
        "budgets": budgets,
        "other_budgets": max(len(budgets.all) - 1, 0),
        "notes": inputs.notes.lines,
        "note_names": CODES,
        "shared_notes": _shared_notes,
        "own_notes": _own_notes,
        "findings": found,
        "waveform": panels,
        "wave_kinds": {
            kind: KINDS[kind] for kind in KINDS if any(c["kind"] == kind for c in waves)
        },
        "strengths": _strengths(here, [finding.panel for finding in found]),
        "most_passes": max((cell["passes_total"] or 0 for cell in here), default=0),
        "budget_charts": over_budget(cells, budgets),
        "brackets": bounds,
        "bracket_charts": bracket_charts(bounds),
        "alarms": alarm_panels(inputs.detections, budgets.reference),
        "alarm_names": ALARMS,
        "fronts": [(metric, fronts(cells, metric)) for metric in measured],
        "scope_charts": scope_curves([cell for cell in cells if _is_at(cell, budgets.reference)]),
        "transfers": transfers(here),
        "replays": replay_matrices(inputs.replays, budgets.reference, inputs.notes),
        "enough": ENOUGH,
        **_costs(inputs.rows, here, budgets.reference),
        "significance": against_best(inputs.rows, here),
        "emotions": {panel: by_emotion(rows) for panel, rows in behind.items()},
        "confusions": {
            panel: (confusion(rows, "prediction_before"), confusion(rows, "prediction_after"))
            for panel, rows in behind.items()
        },
        "metric_names": [metric.name for metric in measured],
        "headings": table_headings(measured),
        "table_rows": table_rows(sorted(listed, key=lambda cell: int(cell["cell"][1:])), measured),
        "left_out": len(frame) + len(waves) - len(listed),
        "scripts": [asset(name) for name in _SCRIPTS],
        "data": embedded.json,
        "sampled": embedded.sampled,
        "exemplars": utterance_views(inputs.exemplars, listed, audio=sounds),
        "surfaces": {exemplar.surface for exemplar in inputs.exemplars},
        "sounds": sounds,
        "redistributable": inputs.redistributable,
        "victims": inputs.victims,
        "victim_lines": _each_once(inputs.victims),
        "attack_settings": _settings(listed),
        "leakage": inputs.leakage,
        "cards": {
            "Corpus": inputs.corpus_card,
            "Encoder": inputs.encoder_card,
            "Environment": inputs.environment,
            "Damaged files that were made again": _repaired(inputs.repairs),
        },
        "study_text": inputs.study_text,
        "seconds": inputs.seconds,
    }


def _shown(cells: list[Cell], here: list[Cell], panels: Sequence[str]) -> list[Cell]:
    """The cells that the page holds: panels in the order of the answer; the reference budget
    first where there are too many for a page."""
    if len(cells) > _MOST_CELLS:
        linked = {cell["cell"] for cell in here}
        cells = sorted(cells, key=lambda cell: cell["cell"] not in linked)[:_MOST_CELLS]
    place = {panel: number for number, panel in enumerate(panels)}
    return sorted(cells, key=lambda cell: place.get(cell["panel"], len(place)))


def _apart(waves: Sequence[Cell], cells: Sequence[Cell]) -> Sequence[Cell]:
    """Cells on the waveform under names that differ from those on the features."""
    return [{**cell, "panel": f"{cell['panel']} · waveform"} for cell in waves] if cells else waves


def _repaired(repairs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """How many files were repaired, and which, the first ones by name."""
    names = [one["file"] for one in repairs]
    shown = ", ".join(names[:_MOST_REPAIRS])
    more = f" and {len(names) - _MOST_REPAIRS} more" if len(names) > _MOST_REPAIRS else ""
    return {"number": len(names), "files": shown + more} if names else {}


def _is_at(cell: Cell, budget: tuple[float, float] | None) -> bool:
    return (cell["sparsity"], cell["epsilon"]) == budget


def _shared_notes(cells: Iterable[Cell], *columns: str) -> list[Note]:
    """Notes on columns of cells that are about their victim or budget, each once."""
    found = [note for cell in cells for note in _notes(cell, columns) if note["attack"] is None]
    return list({id(note): note for note in found}.values())


def _own_notes(cell: Cell, *columns: str) -> list[Note]:
    """Notes on columns of a cell that are about this cell alone."""
    return [note for note in _notes(cell, columns) if note["attack"] is not None]


def _notes(cell: Cell, columns: Sequence[str]) -> list[Note]:
    notes: Sequence[Note] = cell["notes"]
    return [note for note in notes if any(is_about(note, column) for column in columns)]


def asset(name: str) -> Markup:
    """A style sheet or script of the templates."""
    return Markup(files("sigma_ser.report").joinpath("templates", name).read_text("utf-8"))


def _names(cells: Sequence[Cell], column: str) -> str:
    return ", ".join(sorted({cell[column] for cell in cells if cell[column] is not None}))


def _each_once(victims: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Victims and folds; a victim that is attacked on both surfaces has the same scores on both."""
    shown = ("name", "fold", "uar", "accuracy", "test_utterances")
    return list({tuple(line.get(key) for key in shown): line for line in victims}.values())


def _settings(cells: Sequence[Cell]) -> list[tuple[str, str]]:
    """Attacks with their settings in words, in order of first occurrence."""
    every = {(cell["attack"], cell["attack_settings"]) for cell in cells}
    return sorted((name or "–", setting_words(text or "") or "none") for name, text in every)


def _lead(
    found: Sequence[Finding], waves: Sequence[WaveformPanel], here: Sequence[Cell]
) -> dict[str, Any]:
    """The values of the head of the page."""
    ends = [*found[:1], *found[-1:]] if len(found) > _MOST_NAMED else list(found)
    columns = ("asr", "topk_intersection", "spearman")
    best = [finding.best for finding in found]
    own = [note for cell in best for note in _own_notes(cell, *columns)]
    return {
        "shown_findings": ends,
        "lead_notes": [*_shared_notes(best, *columns), *own],
        "headline": headline_lines(found, here),
        "wave_headline": waveform_lines(waves),
        "roles": ROLES,
        "roles_of": roles_of,
        "most_lines": MOST_LINES,
    }


def _costs(
    rows: pl.DataFrame, here: Sequence[Cell], budget: tuple[float, float] | None
) -> dict[str, Any]:
    """Break-even numbers of uses, and for which units some shared mask has one."""
    shared = shared_mask_costs(rows, budget) if budget else []
    every = {cell["cell"]: uses for cell in here if (uses := break_even(cell, here)) is not None}
    return {
        "break_even": every,
        "finite_break_even": any(math.isfinite(uses) for uses in every.values()),
        "shared": shared,
        "shared_even": [
            unit
            for unit in ("passes", "seconds")
            if any(line[f"break_even_{unit}"] is not None for line in shared)
        ],
    }


def _strengths(cells: Sequence[Cell], panels: Sequence[str]) -> dict[str, list[Cell]]:
    """The rated cells of each panel; all panels list the methods in one order."""
    rated = [cell for cell in cells if cell["asr"] is not None]
    ordered = [cell for _, line in by_strength(rated) for cell in line]
    return {panel: [cell for cell in ordered if cell["panel"] == panel] for panel in panels}
