"""The figures of a run as plain values, for indexes of runs and for other programs."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from sigma_ser.core.gradient_signs import masked_warnings

from .cells import Cell, at_budget, budgets_of, page_cells
from .findings import findings
from .headline import heading
from .inputs import ReportInputs
from .readable import readable
from .waveform import waveform_cells, waveform_panels

if TYPE_CHECKING:
    import polars as pl

_RATE = ("utterances", "flipped", "asr", "asr_low", "asr_high")
_BUDGET = ("granularity", "sparsity", "epsilon", "budget_snr")
_ATTACK = (
    "cell", "surface", "victim", "method", "kind", "attack", "attack_settings", "explainer",
    "mask_source", "scope", *_BUDGET, *_RATE, "topk_intersection", "spearman", "cosine",
    "l0_share", "linf", "passes", "mask_passes", "passes_total", "seconds_total",
)  # fmt: skip


def model_figures(rows: pl.DataFrame) -> list[dict[str, Any]]:
    """The strongest attacks on each model and surface, the most affected model first.

    Args:
        rows: of a run, with the outcomes of `rates.headline`.

    Returns:
        Mappings with `victim`, `surface`, the budget, the figures of the strongest attack
        (`method`, `utterances`, `flipped`, `asr`, `asr_low`, `asr_high`), and the success rates
        `masked_asr` in the mask of an explanation and `random_mask_asr` in a random one of the
        same size, or null. All rates are fractions.
    """
    if rows.is_empty():
        return []
    frame = page_cells(rows, "features")
    reference = budgets_of(frame).reference
    found = findings(at_budget(frame, reference).to_dicts()) if reference else []
    lines = [
        _model(one.panel, one.best, masked=one.masked, random_mask=one.random_mask) for one in found
    ]
    return lines + [_model(one.panel, one.best) for one in waveform_panels(_noted(rows))]


def run_figures(inputs: ReportInputs) -> dict[str, Any]:
    """All figures of a run: `name`, `title`, `models`, `attacks`, `warnings` and `notes`.

    Args:
        inputs: the results of the run.
    """
    shown = readable(inputs)
    models = model_figures(shown.rows)
    cells = [] if shown.rows.is_empty() else page_cells(shown.rows).to_dicts()
    found: dict[str, Any] = plain(
        {
            "name": shown.name,
            "title": heading(shown, [one["victim"] for one in models]),
            "models": models,
            "attacks": [
                {name: cell[name] for name in _ATTACK}
                | {"notes": list(dict.fromkeys(one["code"] for one in shown.notes.of(cell)))}
                for cell in cells
            ],
            "warnings": masked_warnings(shown.victims),
            "notes": shown.notes.lines,
        }
    )
    return found


def plain(value: Any) -> Any:
    """A value with null in place of NaN and of infinity, which JSON does not have."""
    match value:
        case float() if not math.isfinite(value):
            return None
        case Mapping():
            return {key: plain(one) for key, one in value.items()}
        case list() | tuple():
            return [plain(one) for one in value]
    return value


def _noted(rows: pl.DataFrame) -> Sequence[Cell]:
    return [{**cell, "notes": ()} for cell in waveform_cells(rows)]


def _model(
    panel: str, best: Cell, *, masked: Cell | None = None, random_mask: Cell | None = None
) -> dict[str, Any]:
    return {
        "victim": panel,
        "surface": best["surface"],
        **{name: best[name] for name in ("method", *_RATE, *_BUDGET)},
        "masked_asr": masked and masked["asr"],
        "random_mask_asr": random_mask and random_mask["asr"],
    }
