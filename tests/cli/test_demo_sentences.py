"""The last sentences of the demo state its figures, and claim no more than they show."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import polars as pl
import pytest

from sigma_ser.cli.demo import finding


def _study(marked: tuple[float, float, float], elsewhere: tuple[float, float, float]) -> Any:
    rates: list[tuple[str, str | None, int | None, tuple[float, float, float]]] = [
        ("dual-averaging", None, None, (0.67, 0.6, 0.7)),
        ("dual-averaging", "gradient", 1, (0.4, 0.3, 0.5)),
        ("dual-averaging", "gradient", 8, marked),
        ("dual-averaging", "random", 8, elsewhere),
        ("random", None, None, (0.01, 0.0, 0.05)),
    ]
    cells = [
        {
            "surface": "features", "victim": "mlp", "utterances": 132, "sparsity": 0.005,
            "attack": attack, "explainer": explainer, "scope": scope,
            "asr": asr, "asr_low": low, "asr_high": high,
        }
        for attack, explainer, scope, (asr, low, high) in rates
    ]  # fmt: skip
    # Recordings that both cells mislead come first, so a cell with more of them misleads those too.
    rows = [
        {
            "surface": "features", "victim": "mlp", "attack": attack, "explainer": explainer,
            "scope": scope, "utterance": f"{number:03}", "correct_before": True,
            "success": number < rate[0] * 132,
        }
        for attack, explainer, scope, rate in rates
        for number in range(132)
    ]  # fmt: skip
    return SimpleNamespace(
        summary=pl.DataFrame(cells), rows=pl.DataFrame(rows, infer_schema_length=None)
    )


@pytest.mark.parametrize(
    ("elsewhere", "ends"),
    [
        ((0.21, 0.15, 0.29), "So the explanation shows where this recogniser is vulnerable."),
        # The intervals overlap, and 8 recordings are misled in the one mask alone.
        ((0.50, 0.42, 0.59), "So the explanation shows where this recogniser is vulnerable."),
        ((0.54, 0.46, 0.62), "The difference may be chance, so this does not show where it is"),
    ],
)
def test_the_conclusion_compares_the_same_recordings(
    elsewhere: tuple[float, float, float], ends: str
) -> None:
    first, second = finding(_study((0.56, 0.47, 0.64), elsewhere))
    assert "132 recordings correctly" in first
    assert "changed one in 200 of them" in first
    assert "wrongly on 1% of the recordings" in first
    assert "chose the numbers freely on 67%" in first
    assert "still succeeded on 56%" in second
    assert ends in second
