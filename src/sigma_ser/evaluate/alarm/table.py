"""Figures of the alarms of a run, from the scores of its utterances before and after attacks."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np

from sigma_ser.core.rows import CELL_COLUMNS, schema

from .separation import detection

if TYPE_CHECKING:
    import polars as pl
    import pyarrow as pa

# Name of the attack that has the score of the alarm in its objective.
EVASION = "alarm-evasion"
# Name of the comparison of clean with other clean utterances, in which nothing can be detected.
NONE = "none"
# Of a control every perturbation counts, whether or not it succeeds.
CONTROL = "random"
_ALARM = ("alarm", "alarm_explainer", "fitted_on")
# What is attacked, at which budget, and with which alarm it is noticed.
_CONDITION = (
    "corpus", "protocol", "encoder", "layer", "surface", "victim", "victim_seed", "granularity",
    "sparsity", "epsilon", "budget_snr", *_ALARM,
)  # fmt: skip
_ATTACK = ("attack", "attack_settings", "attack_seed", "explainer", "mask_source", "scope")


@cache
def score_schema() -> pa.Schema:
    """The columns of `alarms.parquet`: one line for each alarm, cell and utterance.

    `alarm` is `map`, `margin` or `all`, by the features that it uses; `score_before` and
    `score_after` are its log-odds for the clean and for the attacked utterance.
    """
    import pyarrow as pa

    rows = schema()
    return pa.schema(
        [rows.field(name) for name in CELL_COLUMNS]
        + [(name, pa.string()) for name in (*_ALARM, "utterance")]
        + [(name, pa.bool_()) for name in ("correct_before", "success")]
        + [(name, pa.float64()) for name in ("score_before", "score_after")]
    )


def alarm_table(scores: pl.DataFrame) -> pl.DataFrame:
    """Compute how well each alarm of a run detects each attack.

    Only utterances that are classified correctly before the attack count, and of these the
    successful attacks; of the control `random` all. Folds are pooled: the scores of their alarms
    are log-odds, which are comparable.

    Args:
        scores: the columns of `score_schema`.

    Returns:
        One line for each alarm, victim, budget, attack and mask, and for clean against other clean
        utterances (`none`): the columns of the condition, `asr`, `clean` (number of clean
        utterances), and the attributes of `Detection`, null where no attack succeeded.
    """
    import polars as pl

    lines = []
    right = scores.filter("correct_before")
    for condition, here in right.group_by(_CONDITION, maintain_order=True):
        about = dict(zip(_CONDITION, condition, strict=True))
        lines += [about | line for line in _lines(here)]
    return pl.DataFrame(lines, infer_schema_length=None)


def _lines(scores: pl.DataFrame) -> Iterator[dict[str, Any]]:
    """The lines of one alarm on one victim at one budget."""
    clean = scores.unique(["fold", "utterance"], keep="first", maintain_order=True)
    values = clean["score_before"].to_numpy()
    if half := len(values) // 2:
        one, other = values[0::2][:half], values[1::2][:half]
        yield {
            **dict.fromkeys(_ATTACK), "attack": NONE, "asr": None, "clean": half,
            **asdict(detection(one, other)),
        }  # fmt: skip
    for attack, group in scores.group_by(_ATTACK, maintain_order=True):
        success = group["success"].to_numpy()
        counts = np.ones_like(success) if attack[0] == CONTROL else success
        found: dict[str, Any] = {"utterances": 0}
        if counts.any():
            before, after = (group[f"score_{when}"].to_numpy() for when in ("before", "after"))
            found = asdict(detection(before, after, counts))
        yield {
            **dict(zip(_ATTACK, attack, strict=True)),
            "asr": float(success.mean()), "clean": len(group), **found,
        }  # fmt: skip
