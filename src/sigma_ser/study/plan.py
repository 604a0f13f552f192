"""From a study to content-addressed steps: what must be computed, and under which key."""

from __future__ import annotations

import itertools
import platform
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sigma_ser import __version__
from sigma_ser.core import registry
from sigma_ser.core.files import content_key
from sigma_ser.corpora.samples import evenly

from .alarms import alarm_steps
from .budgets import budgets_of, corruption_settings
from .config import StudyConfig
from .mask_sources import mask_owners, own_or_name, sources_on
from .samples import alarm_parts, attacked_parts, unattacked_part
from .sections import CONSENSUS, FEATURES, UNIVERSAL, WAVEFORM, MaskedSection
from .steps import (
    AttackStep,
    CertificateStep,
    CorruptionStep,
    FloorStep,
    GradientStep,
    MaskStep,
    Part,
    Plan,
    ReplayStep,
    SaliencyStep,
    Sample,
    Setting,
    UniversalStep,
    VictimStep,
)

if TYPE_CHECKING:
    from sigma_ser.corpora.corpus import Corpus
    from sigma_ser.corpora.folds import Fold

# Attacked utterances, of all lengths, on which the gradients of a victim are checked.
CHECKED_UTTERANCES = 32
# On the waveform a pass takes the time of many passes of a head.
CHECKED_WAVES = 8


@dataclass(frozen=True)
class PlanInput:
    """One setting with its recordings and the folds that the study runs."""

    setting: Setting
    corpus: Corpus
    folds: Sequence[Fold]


def features_key(corpus: Corpus, encoder_key: str) -> str:
    """Key of the features of a corpus under an encoder."""
    return content_key(["features", versions(), corpus.key, encoder_key])


def make_plan(
    study: StudyConfig, inputs: Sequence[PlanInput], loaded: Mapping[str, str] | None = None
) -> Plan:
    """Plan a study.

    Args:
        study: the configuration.
        inputs: its settings, each with recordings and folds.
        loaded: fingerprint of each victim that is loaded and not trained, by its source.

    Raises:
        ConfigError: if the study names something that it does not define.
    """
    return _Planner(study, inputs, loaded or {}).plan()


class _Planner:
    """Collects the steps of a study, each once."""

    def __init__(
        self, study: StudyConfig, inputs: Sequence[PlanInput], loaded: Mapping[str, str]
    ) -> None:
        self.study = study
        self.loaded = loaded
        self.versions = versions()
        self.samples: dict[Sample, tuple[Part, ...]] = {}
        self.sample_keys: dict[Sample, str] = {}
        self.universal_parts: dict[Sample, Part] = {}
        self.alarm_parts: dict[Sample, tuple[Part, Part]] = {}
        surfaces = dict.fromkeys((FEATURES, *study.surface))
        for one, fold, surface in ((i, f, s) for i in inputs for f in i.folds for s in surfaces):
            place = one.setting.features, fold.key, surface
            parts = attacked_parts(study, one.corpus, fold, surface)
            self.samples[place] = parts
            self.sample_keys[place] = content_key([list(part.column("id")) for part in parts])
            self.universal_parts[place] = unattacked_part(study, one.corpus, fold)
            if study.alarm is not None:
                self.alarm_parts[place] = alarm_parts(study, one.corpus, fold, parts)
        on_features = [
            victim for one in inputs for fold in one.folds
            for victim in self._victims_of(one.setting, fold)
        ]  # fmt: skip
        self.victims = on_features
        if WAVEFORM in study.surface:
            self.victims = on_features + [
                one.on_waveform(self.key("waveform", one.key)) for one in on_features
            ]
        self.gradients: dict[str, GradientStep] = {}
        self.universals: dict[str, UniversalStep] = {}
        self.saliencies: dict[str, SaliencyStep] = {}
        self.floors: dict[str, FloorStep] = {}
        self.attacks: dict[str, AttackStep] = {}
        self.replays: dict[str, ReplayStep] = {}

    def key(self, kind: str, *parts: Any) -> str:
        device = self.study.evaluation.device
        # Heads are trained on the CPU, so one victim serves every device.
        here = [] if device == "cpu" or kind in ("victim", "loaded") else [device]
        return content_key([kind, self.versions, *parts, *here])

    def plan(self) -> Plan:
        attacked = [
            victim for victim in self.victims
            if victim.attacked and victim.setting.surface in self.study.surface
        ]  # fmt: skip
        for victim in attacked:
            self._cells(victim)
        if self.study.evaluation.replay:
            for attack, victim in itertools.product(self.attacks.values(), attacked):
                if self._can_replay(attack.victim, victim):
                    key = self.key("replay", attack.key, victim.key)
                    self.replays[key] = ReplayStep(key, attack, victim)
        return Plan(
            self.study,
            tuple(self.victims),
            tuple(self.universals.values()),
            tuple(self.saliencies.values()),
            tuple(self.floors.values()),
            tuple(self.attacks.values()),
            tuple(self.replays.values()),
            self.samples,
            tuple(self.gradients.values()),
            tuple(self._certificates(attacked)),
            tuple(self._corruptions(attacked)),
            *alarm_steps(
                self.study, self.attacks.values(), self.alarm_parts, self.sample_keys, self.key
            ),
        )

    def _can_replay(self, source: VictimStep, target: VictimStep) -> bool:
        """Whether another victim takes what a victim was given: these features, or any wave."""
        if source.key == target.key or source.setting.surface != target.setting.surface:
            return False
        if source.on_features is None:
            return source.sample == target.sample and target.setting.layer != "all"
        same_recordings = source.setting.corpus == target.setting.corpus
        return (
            same_recordings
            and source.fold.key == target.fold.key
            and self.sample_keys[source.sample] == self.sample_keys[target.sample]
        )

    def _victims_of(self, setting: Setting, fold: Fold) -> Iterator[VictimStep]:
        for section in self.study.victims:
            surfaces, hardened = tuple(section.surface) if section.attacked else (), None
            if section.adversarial is not None:
                hardened = section.adversarial.model_dump()
            for seed in section.seeds:
                if section.load is None:
                    key = self.key(
                        "victim", setting.features, fold.key, section.head,
                        section.head_settings, section.settings, seed, hardened,
                    )  # fmt: skip
                else:
                    key = self.key(
                        "loaded", setting.features, fold.key, self.loaded[section.load],
                        section.settings,
                    )  # fmt: skip
                name = section.title if len(section.seeds) == 1 else f"{section.title}-{seed}"
                head = section.head or "loaded"
                yield VictimStep(
                    key, setting, name, fold, head, section.head_settings, section.settings,
                    seed, section.load, hardened, surfaces,
                )  # fmt: skip

    def _cells(self, victim: VictimStep) -> None:
        study, surface, reference = self.study, victim.setting.surface, None
        sections = [one for one in study.attacks if surface in one.surface]
        if not sections:
            return
        check = self._gradient_check(victim)
        if study.consistency.explainer is not None and surface in study.consistency.surface:
            reference = self._saliency(
                victim, study.consistency.explainer, study.consistency.settings
            )
        for section, budget in itertools.product(sections, budgets_of(study.budgets, surface)):
            for mask, scope in self._conditions(section, victim, budget.granularity):
                floor = None
                mask_key = None if mask is None else mask.key
                if reference is not None:
                    key = self.key(
                        "floor", victim.key, mask_key, scope, budget.parts, reference.key
                    )
                    floor = self.floors.setdefault(
                        key, FloorStep(key, victim, budget, mask, scope, reference)
                    )
                for seed in section.seeds or [study.evaluation.seed]:
                    key = self.key(
                        "attack", victim.key, section.name, section.settings, mask_key, scope,
                        budget.parts, None if reference is None else reference.key, seed,
                        study.evaluation.seed, study.evaluation.batch_size,
                        study.keeps(surface), self.sample_keys[victim.sample],
                    )  # fmt: skip
                    self.attacks[key] = AttackStep(
                        key, victim, section.name, section.settings, seed, budget, mask, scope,
                        reference, floor, study.keeps(surface), check,
                    )  # fmt: skip

    def _corruptions(self, victims: Sequence[VictimStep]) -> Iterator[CorruptionStep]:
        seed = self.study.evaluation.seed
        for victim, section in itertools.product(victims, self.study.corruptions):
            if victim.setting.surface != WAVEFORM:
                continue
            for settings in corruption_settings(section, self.study.budgets):
                key = self.key(
                    "corruption", victim.key, section.name, settings, seed,
                    self.study.evaluation.batch_size, self.sample_keys[victim.sample],
                )  # fmt: skip
                yield CorruptionStep(key, victim, section.name, settings, seed)

    def _certificates(self, victims: Sequence[VictimStep]) -> Iterator[CertificateStep]:
        study = self.study
        for victim, section, budget in itertools.product(
            victims, study.certificates, budgets_of(study.budgets, FEATURES)
        ):
            if victim.setting.surface != FEATURES:
                continue
            for mask, scope in self._conditions(section, victim, budget.granularity):
                key = self.key(
                    "certificate", victim.key, section.method, section.settings,
                    None if mask is None else mask.key, scope, budget.parts,
                    study.evaluation.batch_size, self.sample_keys[victim.sample],
                )  # fmt: skip
                yield CertificateStep(
                    key, victim, budget, section.method, section.settings, mask, scope
                )

    def _gradient_check(self, victim: VictimStep) -> GradientStep | None:
        """The check at the largest budget, on utterances of all lengths."""
        checked = CHECKED_WAVES if victim.setting.surface == WAVEFORM else CHECKED_UTTERANCES
        part = evenly(self.samples[victim.sample], checked)
        if not part:
            return None
        surface = victim.setting.surface
        budget = max(budgets_of(self.study.budgets, surface), key=lambda one: one.strength)
        key = self.key("gradients", victim.key, budget.parts, [one.id for one in part])
        return self.gradients.setdefault(key, GradientStep(key, victim, budget, part))

    def _conditions(
        self, section: MaskedSection, victim: VictimStep, granularity: str
    ) -> Iterator[tuple[MaskStep | None, int | None]]:
        """Mask and scope of each cell; the native one has none."""
        if section.native:
            yield None, None
        for explainer in section.explainers:
            name = str(self.study.explainers.get(explainer, {}).get("name", explainer))
            # A control does not depend on the victim: other sources would give the same map.
            is_control = getattr(registry.get("explainer", name), "control", False)
            surface = victim.setting.surface
            for source in sources_on(surface, section.mask_sources, is_control):
                for mask in self._masks(explainer, source, victim, granularity, section):
                    for scope in section.scopes:
                        yield mask, scope

    def _masks(
        self,
        explainer: str,
        source: str,
        victim: VictimStep,
        granularity: str,
        section: MaskedSection,
    ) -> Iterator[MaskStep]:
        owners = mask_owners(source, victim, self.victims, section.described, granularity)
        if source == CONSENSUS:
            maps = tuple(self._saliency(one, explainer) for one in owners)
            yield MaskStep(explainer, CONSENSUS, maps)
        elif source == UNIVERSAL:
            yield MaskStep(explainer, UNIVERSAL, universal=self._universal(victim, explainer))
        else:
            for owner in owners:
                # The features are explained for the utterances of the waveform.
                saliency = self._saliency(owner, explainer, sample=victim.sample)
                yield MaskStep(explainer, own_or_name(saliency, victim), (saliency,))

    def _saliency(
        self,
        victim: VictimStep,
        explainer: str,
        extra: Mapping[str, Any] | None = None,
        sample: Sample | None = None,
    ) -> SaliencyStep:
        sample = sample or victim.sample
        settings = {**self.study.explainers.get(explainer, {}), **(extra or {})}
        name = str(settings.pop("name", explainer))
        key = self.key(
            "saliency", victim.key, name, settings, self.sample_keys[sample],
            self.study.evaluation.seed, self.study.evaluation.batch_size,
        )  # fmt: skip
        step = SaliencyStep(key, victim, explainer, name, settings, sample)
        return self.saliencies.setdefault(key, step)

    def _universal(self, victim: VictimStep, explainer: str) -> UniversalStep:
        settings = dict(self.study.explainers.get(explainer, {}))
        name = str(settings.pop("name", explainer))
        part = self.universal_parts[victim.sample]
        ids = [one.id for one in part]
        key = self.key("universal", victim.key, name, settings, ids, self.study.evaluation.seed)
        return self.universals.setdefault(
            key, UniversalStep(key, victim, explainer, name, settings, part)
        )


def versions() -> dict[str, str]:
    """What may change a result besides the inputs: part of every key."""
    import torch

    return {"sigma-ser": __version__, "torch": torch.__version__, "machine": platform.machine()}
