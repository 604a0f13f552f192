"""Criteria as they are declared in a file before the audit."""

from __future__ import annotations

import inspect
from importlib.resources import files
from typing import Annotated, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, model_validator

from sigma_ser.core import registry
from sigma_ser.core.budget import Granularity
from sigma_ser.core.errors import UnknownNameError
from sigma_ser.core.rows import CONSISTENCY_METRICS
from sigma_ser.core.value_types import Ratio, Share

Surface = Literal["features", "waveform"]
Rate = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0, le=1e6)]
# Measures that are 1 for an unchanged explanation and smaller for every other one.
KEPT = tuple(name for name in CONSISTENCY_METRICS if name != "centre_shift")


class AuditBudget(NamedTuple):
    """A budget that a criterion names, on one surface.

    Args:
        surface: `features` or `waveform`.
        granularity: the units that may change.
        sparsity: share of these units.
        epsilon: largest change in standard deviations; `None` on the waveform.
        snr: least signal-to-noise ratio in dB; `None` on features.
    """

    surface: Surface
    granularity: Granularity
    sparsity: float
    epsilon: float | None
    snr: float | None


class _Declared(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class _AtBudget(_Declared):
    sparsity: Share
    epsilon: Positive
    granularity: Granularity = "element"

    @property
    def budget(self) -> AuditBudget:
        """On features."""
        return AuditBudget("features", self.granularity, self.sparsity, self.epsilon, None)


class AttackSuccess(_Declared):
    """The largest tolerated share of utterances that the strongest attack gets misclassified.

    On features the budget has `epsilon`, on the waveform `snr`.
    """

    surface: Surface = "features"
    sparsity: Share
    epsilon: Positive | None = None
    snr: Ratio | None = None
    granularity: Granularity = "element"
    at_most: Rate

    @model_validator(mode="after")
    def _strength_fits(self) -> AttackSuccess:
        _check_strength(self.surface, self.epsilon, self.snr)
        return self

    @property
    def budget(self) -> AuditBudget:
        """On the surface that is named."""
        return AuditBudget(self.surface, self.granularity, self.sparsity, self.epsilon, self.snr)


class Corrupted(_Declared):
    """The largest tolerated share of utterances that a natural corruption gets misclassified."""

    corruption: str
    snr: Ratio | None = None
    at_most: Rate

    @model_validator(mode="after")
    def _corruption_exists(self) -> Corrupted:
        try:
            member = registry.get("corruption", self.corruption)
        except UnknownNameError as fault:
            raise ValueError(str(fault)) from None
        has_ratio = "snr" in inspect.signature(member).parameters
        if has_ratio and self.snr is None:
            raise ValueError(f"the corruption {self.corruption} requires snr, in dB")
        if not has_ratio and self.snr is not None:
            raise ValueError(f"the corruption {self.corruption} has no snr: remove this key")
        return self


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
    surface: Surface = "features"
    sparsity: Share | None = None
    epsilon: Positive | None = None
    snr: Ratio | None = None
    granularity: Granularity = "element"

    @model_validator(mode="after")
    def _budget_where_needed(self) -> GroupGap:
        if self.measure == "accuracy":
            if (self.sparsity, self.epsilon, self.snr) != (None, None, None):
                raise ValueError("the gap of accuracy has no sparsity, epsilon or snr")
            return self
        if self.sparsity is None:
            raise ValueError("the gap of attack_success requires sparsity and epsilon, or snr")
        _check_strength(self.surface, self.epsilon, self.snr)
        return self

    @property
    def budget(self) -> AuditBudget | None:
        """On the surface that is named; `None` on unchanged recordings."""
        if self.sparsity is None:
            return None
        return AuditBudget(self.surface, self.granularity, self.sparsity, self.epsilon, self.snr)


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
        corrupted: limits of the rate of errors under natural corruptions.
        certified: least certified shares.
        group_gap: limits of differences between groups.
        explanation_kept: least agreements of explanations.
    """

    utterances: Annotated[int, Field(ge=1)] = 50
    clean_uar: Share | None = None
    attack_success: tuple[AttackSuccess, ...] = ()
    corrupted: tuple[Corrupted, ...] = ()
    certified: tuple[Certified, ...] = ()
    group_gap: tuple[GroupGap, ...] = ()
    explanation_kept: tuple[ExplanationKept, ...] = ()

    @model_validator(mode="after")
    def _something_is_declared(self) -> Criteria:
        lists = (self.attack_success, self.corrupted, self.certified, self.group_gap)
        if self.clean_uar is None and not any(lists) and not self.explanation_kept:
            raise ValueError("no criterion is declared; sigma-ser init --criteria prints examples")
        return self

    def budgets(self, surface: Surface) -> list[AuditBudget]:
        """The budgets at which the audit has to attack a surface, in order, each once."""
        asked: list[_AtBudget | AttackSuccess | GroupGap] = [
            *self.attack_success,
            *self.certified,
            *self.group_gap,
            *self.explanation_kept,
        ]
        named = (one.budget for one in asked if one.budget is not None)
        return list(dict.fromkeys(one for one in named if one.surface == surface))


def _check_strength(surface: Surface, epsilon: float | None, snr: float | None) -> None:
    needed, other = ("epsilon", "snr") if surface == "features" else ("snr", "epsilon")
    given = {"epsilon": epsilon, "snr": snr}
    if given[needed] is None or given[other] is not None:
        raise ValueError(f"a budget on the {surface} requires {needed}, and has no {other}")


def criteria_text() -> str:
    """A commented file of criteria, to be adapted before an audit."""
    return files("sigma_ser.evaluate.criteria").joinpath("default.toml").read_text("utf-8")
