"""Criteria as they are declared in a file before the audit."""

from __future__ import annotations

from importlib.resources import files
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from sigma_ser.core.budget import Granularity
from sigma_ser.core.rows import CONSISTENCY_METRICS

Share = Annotated[float, Field(gt=0, le=1)]
Rate = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0, le=1e6)]
# Measures that are 1 for an unchanged explanation and smaller for every other one.
KEPT = tuple(name for name in CONSISTENCY_METRICS if name != "centre_shift")


class _Declared(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class _AtBudget(_Declared):
    sparsity: Share
    epsilon: Positive
    granularity: Granularity = "element"

    @property
    def budget(self) -> tuple[str, float, float]:
        """Granularity, sparsity and epsilon."""
        return self.granularity, self.sparsity, self.epsilon


class AttackSuccess(_AtBudget):
    """The largest tolerated share of utterances that the strongest attack gets misclassified."""

    at_most: Rate


class Certified(_AtBudget):
    """The least share of utterances that a proven bound protects."""

    at_least: Rate


class GroupGap(_Declared):
    """The largest tolerated difference between two groups of utterances.

    `measure` is `accuracy` on unchanged recordings, or `attack_success` at a budget.
    """

    group: Literal["label", "speaker"]
    measure: Literal["accuracy", "attack_success"] = "accuracy"
    at_most: Rate
    sparsity: Share | None = None
    epsilon: Positive | None = None
    granularity: Granularity = "element"

    @model_validator(mode="after")
    def _budget_where_needed(self) -> GroupGap:
        given = self.sparsity is not None and self.epsilon is not None
        if self.measure == "attack_success" and not given:
            raise ValueError("the gap of attack_success requires sparsity and epsilon")
        if self.measure == "accuracy" and (self.sparsity, self.epsilon) != (None, None):
            raise ValueError("the gap of accuracy has no sparsity and no epsilon")
        return self

    @property
    def budget(self) -> tuple[str, float, float] | None:
        """Granularity, sparsity and epsilon; `None` on unchanged recordings."""
        if self.sparsity is None or self.epsilon is None:
            return None
        return self.granularity, self.sparsity, self.epsilon


class ExplanationKept(_AtBudget):
    """The least mean agreement of explanations before and after successful attacks."""

    measure: Literal[KEPT] = "topk_intersection"  # type: ignore[valid-type]
    at_least: Rate


class Criteria(_Declared):
    """All criteria of an audit. A list that is empty, and `None`, declare nothing.

    Args:
        utterances: least number of attacked utterances that are classified correctly before the
            attack; with fewer nothing passes.
        clean_uar: least unweighted average recall on unchanged recordings.
        attack_success: limits of the success rate of the strongest attack.
        certified: least certified shares.
        group_gap: limits of differences between groups.
        explanation_kept: least agreements of explanations.
    """

    utterances: Annotated[int, Field(ge=1)] = 50
    clean_uar: Share | None = None
    attack_success: tuple[AttackSuccess, ...] = ()
    certified: tuple[Certified, ...] = ()
    group_gap: tuple[GroupGap, ...] = ()
    explanation_kept: tuple[ExplanationKept, ...] = ()

    @model_validator(mode="after")
    def _something_is_declared(self) -> Criteria:
        lists = (self.attack_success, self.certified, self.group_gap, self.explanation_kept)
        if self.clean_uar is None and not any(lists):
            raise ValueError("no criterion is declared; sigma-ser init --criteria prints examples")
        return self

    @property
    def budgets(self) -> list[tuple[str, float, float]]:
        """The budgets at which the audit has to attack, in order, each once."""
        asked: list[_AtBudget | GroupGap] = [
            *self.attack_success,
            *self.certified,
            *self.group_gap,
            *self.explanation_kept,
        ]
        return list(dict.fromkeys(one.budget for one in asked if one.budget is not None))


def criteria_text() -> str:
    """A commented file of criteria, to be adapted before an audit."""
    return files("sigma_ser.evaluate.criteria").joinpath("default.toml").read_text("utf-8")
