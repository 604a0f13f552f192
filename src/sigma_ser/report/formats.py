"""Numbers for people: per cent, budgets, durations. Files keep fractions."""

from __future__ import annotations

import math

_THIN = "\u202f"  # narrow no-break space, between number and unit


def percent(value: float | int | None, digits: int = 0) -> str:
    """`0.623` as `62 %`; an en dash where there is no number.

    >>> percent(0.623) == "62" + chr(0x202F) + "%"
    True
    """
    if value is None or math.isnan(value):
        return "–"
    # 0.4 % of flipped utterances is not none of them.
    if digits == 0 and 0 < abs(value) < 0.01:
        digits = 1
    return f"{100 * value:.{digits}f}{_THIN}%"


def share(value: float | int | None) -> str:
    """A small share such as a sparsity, with as many digits as it needs: `0.005` as `0.5 %`."""
    return "–" if value is None else f"{100 * value:.3g}{_THIN}%"


def decimal(value: float | int | None, digits: int = 2) -> str:
    """A correlation or a distance: two digits, with a true minus sign."""
    if value is None or math.isnan(value):
        return "–"
    text = f"{value:.{digits}f}"
    if float(text) == 0:
        text = text.lstrip("-")
    return text.replace("-", "\u2212")


def count(value: float | int | None) -> str:
    """A number of passes or elements: means below 100 with one digit after the point."""
    if value is None or math.isnan(value):
        return "–"
    text = (
        f"{value:,.1f}" if abs(value) < 100 and not float(value).is_integer() else f"{value:,.0f}"
    )
    return text.replace(",", _THIN)


def duration(seconds: float | int | None) -> str:
    """Seconds in the unit that suits them."""
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


def budget_words(sparsity: float | int | None, epsilon: float | int | None) -> str:
    """A budget in a few words: `1 % of the elements, each by at most 0.5 σ`."""
    parts = []
    if sparsity is not None:
        parts.append(f"{share(sparsity)} of the elements")
    if epsilon is not None:
        parts.append(f"each by at most {epsilon:g}{_THIN}σ")
    return ", ".join(parts) or "no budget given"
