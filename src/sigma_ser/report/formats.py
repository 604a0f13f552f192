"""Text forms of numbers for the page and figures: per cent, budgets, durations."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

_THIN = "\u202f"  # narrow no-break space, between number and unit


def percent(value: float | int | None, digits: int = 0) -> str:
    """`0.623` as `62 %`; a missing value as an en dash.

    >>> percent(0.623) == "62" + chr(0x202F) + "%"
    True
    """
    if value is None or math.isnan(value):
        return "–"
    # A rate below 1 % gets one decimal, because 0 % would mean that there is none.
    if digits == 0 and 0 < abs(value) < 0.01:
        digits = 1
    return f"{100 * value:.{digits}f}{_THIN}%"


def share(value: float | int | None) -> str:
    """A small share such as a sparsity, with three significant digits: `0.005` as `0.5 %`."""
    return "–" if value is None else f"{100 * value:.3g}{_THIN}%"


def decimal(value: float | int | None, digits: int = 2) -> str:
    """A correlation or a distance, with a typographic minus sign."""
    if value is None or math.isnan(value):
        return "–"
    text = f"{value:.{digits}f}"
    if float(text) == 0:
        text = text.lstrip("-")
    return text.replace("-", "\u2212")


def count(value: float | int | None) -> str:
    """A number of passes or elements; non-integers below 100 have one decimal."""
    if value is None or math.isnan(value):
        return "–"
    text = (
        f"{value:,.1f}" if abs(value) < 100 and not float(value).is_integer() else f"{value:,.0f}"
    )
    return text.replace(",", _THIN)


def duration(seconds: float | int | None) -> str:
    """Seconds as ms, s, min or h."""
    if seconds is None or math.isnan(seconds):
        return "–"
    if seconds == 0:
        return f"0{_THIN}s"
    if seconds < 0.0995:
        return f"{1000 * seconds:.2g}{_THIN}ms"
    if seconds < 60:
        return f"{seconds:.2g}{_THIN}s"
    if seconds < 3600:
        return f"{seconds / 60:.1f}{_THIN}min"
    return f"{seconds / 3600:.1f}{_THIN}h"


def budget_text(sparsity: float | int | None, epsilon: float | int | None) -> str:
    """A budget as text: `1 % of the feature values, each changed by at most 0.5 σ`."""
    parts = []
    if sparsity is not None:
        parts.append(f"{share(sparsity)} of the feature values")
    if epsilon is not None:
        parts.append(f"each changed by at most {epsilon:g}{_THIN}σ")
    return ", ".join(parts) or "no budget"


def strength_text(cell: Mapping[str, Any]) -> str:
    """The bound of a budget in short: `ε 0.5`, or `30 dB` for a signal-to-noise ratio."""
    if cell["budget_snr"] is not None:
        return f"{cell['budget_snr']:g}{_THIN}dB"
    return "–" if cell["epsilon"] is None else f"ε{_THIN}{cell['epsilon']:g}"


def cell_budget(cell: Mapping[str, Any]) -> str:
    """The budget of a cell on either surface as text; a corruption has at most a ratio.

    Args:
        cell: with `surface`, `sparsity`, `epsilon` and `budget_snr`.
    """
    if cell["surface"] != "waveform":
        return budget_text(cell["sparsity"], cell["epsilon"])
    parts = []
    if cell["sparsity"] is not None:
        parts.append(f"{share(cell['sparsity'])} of the samples")
    if cell["budget_snr"] is not None:
        parts.append(f"signal-to-noise ratio of at least {cell['budget_snr']:g}{_THIN}dB")
    elif cell["epsilon"] is not None:
        parts.append(f"each changed by at most {share(cell['epsilon'])} of full scale")
    return ", ".join(parts) or "no budget"
