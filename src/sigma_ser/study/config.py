"""A study as typed values: the schema of a study file; `loading` reads it."""

from __future__ import annotations

from typing import Any

from pydantic import Field, field_validator, model_validator

from sigma_ser.core.files import safe_name
from sigma_ser.core.value_types import OneOrMore

from .sections import (
    FEATURES,
    WAVEFORM,
    AlarmSection,
    AttackSection,
    BudgetSection,
    CertificateSection,
    ConsistencySection,
    CorpusSection,
    CorruptionSection,
    EncoderSection,
    EvaluationSection,
    ExecutorSection,
    FeaturesSection,
    Section,
    Surface,
    Surfaces,
    TrackingSection,
    VictimSection,
)


class StudyConfig(Section):
    """A whole study."""

    name: str
    title: str | None = Field(
        None, description="title of the report; by default the attacked models and the corpus"
    )
    corpus: OneOrMore[CorpusSection] | None = None
    encoder: OneOrMore[EncoderSection] | None = None
    features: FeaturesSection | None = None
    surface: Surfaces = Field(
        [FEATURES], description="what is attacked: features, waveform, or a list of both"
    )
    victims: list[VictimSection] = Field(min_length=1)
    explainers: dict[str, dict[str, Any]] = Field(
        {}, description="settings by name; `name` in them makes an alias"
    )
    budgets: BudgetSection = BudgetSection()
    attacks: list[AttackSection] = Field(min_length=1)
    corruptions: list[CorruptionSection] = Field([])
    certificates: list[CertificateSection] = Field([])
    alarm: AlarmSection | None = None
    consistency: ConsistencySection = ConsistencySection()
    evaluation: EvaluationSection = EvaluationSection()
    executor: ExecutorSection = ExecutorSection()
    tracking: OneOrMore[TrackingSection] | None = None

    @model_validator(mode="after")
    def _surfaces_fit(self) -> StudyConfig:
        if WAVEFORM not in self.surface:
            found = [
                ("budgets.snr", self.budgets.snr), ("[[corruptions]]", self.corruptions),
                ("budgets.waveform_sparsity", self.budgets.waveform_sparsity),
                ("evaluation.waveform_utterances", self.evaluation.waveform_utterances),
            ]  # fmt: skip
            for what, given in found:
                if given:
                    raise ValueError(f'{what} needs the waveform: add it to surface = ["waveform"]')
        elif any(WAVEFORM in one.surface for one in self.attacks) and not (
            {"element", "segment"} & set(self.budgets.granularity)
        ):
            raise ValueError(
                "on the waveform budgets.granularity is element (samples) or segment (20 ms)"
            )
        if self.certificates and FEATURES not in self.surface:
            raise ValueError(
                'certificates bound changes of features: add "features" to the key surface'
            )
        if self.alarm is not None and FEATURES not in self.surface:
            raise ValueError(
                'alarms notice changes of features: add "features" to the key surface, or remove '
                "[alarm]"
            )
        return self

    def keeps(self, surface: Surface) -> bool:
        """Whether the perturbations on a surface are kept: to be shown, replayed or noticed."""
        wanted = self.evaluation.keep or self.evaluation.replay
        return wanted or (self.alarm is not None and surface == FEATURES)

    @field_validator("name")
    @classmethod
    def _name_is_a_folder(cls, name: str) -> str:
        if safe_name(name) != name:
            raise ValueError(
                f"use letters, digits, '.', '_' and '-' alone, e.g. {safe_name(name)!r}"
            )
        return name

    @model_validator(mode="after")
    def _inputs_are_named(self) -> StudyConfig:
        for name in ("corpus", "encoder") if self.features is None else ():
            if getattr(self, name) is None:
                raise ValueError(f"the key {name!r} is missing (or a store under [features])")
        if self.features is not None and self.encoder is not None:
            raise ValueError("give an encoder or a store under [features], not both")
        if not any(one.attacked for one in self.victims):
            raise ValueError("no victim is attacked: remove attacked = false from one of them")
        if WAVEFORM in self.surface and self.corpus is None:
            raise ValueError(
                "the surface waveform needs recordings, and a store holds none: name their corpus "
                "under [corpus]"
            )
        trained = any(one.load is None for one in self.victims)
        split = all(section.protocol for section in self.corpus or ())
        if not split and (self.features is None or trained):
            raise ValueError("the key 'protocol' is missing under [corpus]")
        if self.corpus is None and trained:
            raise ValueError(
                "a head needs a corpus and a protocol to be trained; a store alone serves victims "
                "that are loaded"
            )
        return self
