"""The rates in the record of an audit: under attack, in groups, and under natural corruptions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from sigma_ser.evaluate.groups import worst_case
from sigma_ser.evaluate.rates import UTTERANCE, headline, success_rates

if TYPE_CHECKING:
    import polars as pl

_BUDGET = ("surface", "granularity", "sparsity", "epsilon", "budget_snr")
_COUNTS = ("attacks", "utterances", "flipped", "worst_case_asr", "worst_case_asr_low",
           "worst_case_asr_high")  # fmt: skip


def attack_lines(rows: pl.DataFrame) -> list[dict[str, Any]]:
    """The strongest case over all attacks at each budget of each surface, the smallest first.

    Args:
        rows: the columns of `core.rows`.
    """
    table = _ordered(worst_case(rows))
    return table.select(*_BUDGET, *_COUNTS).to_dicts()


def group_lines(rows: pl.DataFrame, column: str) -> list[dict[str, Any]]:
    """The strongest case within each group at each budget, the worst group first.

    Args:
        rows: the columns of `core.rows`.
        column: `label` or `speaker`.
    """
    table = worst_case(rows, [column]).drop_nulls([column, "worst_case_asr"])
    table = _ordered(table.sort("worst_case_asr", descending=True, maintain_order=True))
    return [
        {
            "group": column,
            "value": line[column],
            **{name: line[name] for name in _BUDGET},
            "n": line["utterances"],
            "success": line["worst_case_asr"],
            "low": line["worst_case_asr_low"],
            "high": line["worst_case_asr_high"],
        }
        for line in table.to_dicts()
    ]


def corruption_lines(rows: pl.DataFrame) -> list[dict[str, Any]]:
    """The share of recognised utterances that each natural corruption gets misclassified.

    Args:
        rows: the columns of `core.rows`; without corruptions the list is empty.
    """
    place = ("attack", "attack_settings", "budget_snr")
    found = success_rates(_natural(rows), place).sort("asr", descending=True, maintain_order=True)
    return [
        {
            "corruption": line["attack"],
            "settings": line["attack_settings"],
            "snr": line["budget_snr"],
            **_counted(line),
        }
        for line in found.to_dicts()
    ]


def wrong_anyway_line(rows: pl.DataFrame) -> dict[str, Any] | None:
    """The share of recognised utterances that at least one corruption gets misclassified.

    Args:
        rows: the columns of `core.rows`; without corruptions the result is `None`.
    """
    import polars as pl

    natural = _natural(rows)
    if natural.is_empty():
        return None
    each = natural.group_by(UTTERANCE, maintain_order=True).agg(pl.col("success").any())
    (line,) = success_rates(each.with_columns(all=pl.lit("all")), ["all"]).to_dicts()
    return _counted(line)


def _natural(rows: pl.DataFrame) -> pl.DataFrame:
    """The rows of corruptions whose unchanged recording is recognised after the round trip."""
    import polars as pl

    return headline(rows).filter(pl.col("granularity").is_null(), "correct_before")


def _counted(line: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "n": line["utterances"],
        "misclassified": line["flipped"],
        "rate": line["asr"],
        "low": line["asr_low"],
        "high": line["asr_high"],
    }


def _ordered(table: pl.DataFrame) -> pl.DataFrame:
    """Budgets in ascending order of what they allow; the order within a budget is kept."""
    louder = [name == "budget_snr" for name in _BUDGET]
    return table.sort(_BUDGET, descending=louder, maintain_order=True)
