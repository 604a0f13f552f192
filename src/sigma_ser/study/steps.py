"""The steps of a study: what each one computes, from which others, and under which key."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sigma_ser.audio.recording import SAMPLE_RATE
from sigma_ser.core.files import safe_name
from sigma_ser.core.utterance import Utterance

from .budgets import PlannedBudget
from .config import StudyConfig
from .sections import CONSENSUS, FEATURES, UNIVERSAL, WAVEFORM, Surface

if TYPE_CHECKING:
    from sigma_ser.corpora.folds import Fold

Part = Sequence[Utterance]
# Key of the features, key of the fold, and surface.
Sample = tuple[str, str, str]
# Digits of a key in the name of a folder that people read.
_NAME_DIGITS = 8


@dataclass(frozen=True)
class Setting:
    """What all victims of one corpus, protocol, encoder, layer and surface share.

    `features` is the key of the features and `store` the folder in which they lie;
    `frame_seconds` is the time from one frame to the next, on the waveform of one sample.
    `opens` are the arguments of `load_encoder`, empty where the waveform is not attacked.
    """

    corpus: str
    protocol: str
    encoder: str
    layer: str
    features: str
    store: Path
    frame_seconds: float
    surface: Surface = FEATURES
    opens: tuple[tuple[str, Any], ...] = field(default=(), repr=False)

    @property
    def columns(self) -> dict[str, Any]:
        """The columns of the rows that identify it."""
        return {
            "corpus": self.corpus,
            "protocol": self.protocol,
            "encoder": self.encoder,
            "layer": self.layer,
            "surface": self.surface,
        }


class KeyedStep:
    """Steps compare and hash by their keys, which determine their results."""

    key: str

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and self.key == getattr(other, "key", None)

    def __hash__(self) -> int:
        return hash(self.key)


@dataclass(frozen=True, eq=False)
class VictimStep(KeyedStep):
    """Train one head on one fold with one seed, or load a victim and score it.

    A victim on the waveform is the whole of an encoder and the victim `on_features`, which is
    trained or loaded once for both surfaces.
    """

    key: str
    setting: Setting = field(repr=False)
    name: str
    fold: Fold = field(repr=False)
    head: str
    head_settings: Mapping[str, Any]
    training: Mapping[str, Any]
    seed: int
    source: str | None = None
    adversarial: Mapping[str, Any] | None = None
    attacked_on: tuple[Surface, ...] = (FEATURES, WAVEFORM)
    on_features: VictimStep | None = field(default=None, repr=False)

    def on_waveform(self, key: str) -> VictimStep:
        """The whole model of an encoder and this victim, under a key of its own."""
        setting = replace(self.setting, surface=WAVEFORM, frame_seconds=1 / SAMPLE_RATE)
        return replace(self, key=key, setting=setting, on_features=self)

    @property
    def folder(self) -> str:
        """Name of its folder, for people: `mlp-test-OAF-0-1fcb7092`."""
        if self.on_features is not None:
            return self.on_features.folder
        return safe_name(f"{self.name}-{self.fold.name}-{self.seed}-{self.key[:_NAME_DIGITS]}")

    @property
    def attacked(self) -> bool:
        """Whether it is attacked on its surface; else its explanations serve others only."""
        return self.setting.surface in self.attacked_on

    @property
    def sample(self) -> Sample:
        """Under which its attacked utterances are kept in the plan."""
        return self.setting.features, self.fold.key, self.setting.surface


@dataclass(frozen=True, eq=False)
class SaliencyStep(KeyedStep):
    """Explain the true class of each attacked utterance, once, for all masks and comparisons.

    `sample` is that of the attacked victim: features are also explained for the waveform.
    """

    key: str
    victim: VictimStep
    explainer: str
    name: str
    settings: Mapping[str, Any]
    sample: Sample


@dataclass(frozen=True, eq=False)
class UniversalStep(KeyedStep):
    """One map for a whole victim, from utterances that are not attacked."""

    key: str
    victim: VictimStep
    explainer: str
    name: str
    settings: Mapping[str, Any]
    utterances: Part = field(repr=False)


@dataclass(frozen=True, eq=False)
class GradientStep(KeyedStep):
    """The gradient check of one attacked victim, at the largest budget of the study."""

    key: str
    victim: VictimStep
    budget: PlannedBudget
    utterances: Part = field(repr=False)


@dataclass(frozen=True)
class MaskStep:
    """Whose maps make a mask: those of one victim, the mean of several, or a universal one.

    It has no artefact of its own: a mask follows from the stored maps in a few milliseconds.
    """

    explainer: str
    source: str
    maps: tuple[SaliencyStep, ...] = ()
    universal: UniversalStep | None = None

    @property
    def key(self) -> str:
        """From the keys of its maps."""
        kind = self.source if self.source in (CONSENSUS, UNIVERSAL) else ""
        return kind + "+".join(one.key for one in self.origins)

    @property
    def origins(self) -> tuple[SaliencyStep | UniversalStep, ...]:
        """The steps whose results it needs."""
        return self.maps if self.universal is None else (self.universal,)


@dataclass(frozen=True, eq=False)
class FloorStep(KeyedStep):
    """Consistency under a random perturbation in the same mask, with the same budget."""

    key: str
    victim: VictimStep
    budget: PlannedBudget
    mask: MaskStep | None
    scope: int | None
    reference: SaliencyStep


@dataclass(frozen=True, eq=False)
class AttackStep(KeyedStep):
    """One cell: one attack on one victim in one condition."""

    key: str
    victim: VictimStep
    attack: str
    settings: Mapping[str, Any]
    seed: int
    budget: PlannedBudget
    mask: MaskStep | None
    scope: int | None
    reference: SaliencyStep | None
    floor: FloorStep | None
    keep_perturbations: bool = False
    check: GradientStep | None = field(default=None, repr=False)

    @property
    def mask_source(self) -> str | None:
        """Whose map made the mask: `own`, a victim's name ..., or null for a native attack."""
        return None if self.mask is None else self.mask.source

    @property
    def guided(self) -> bool:
        """Whether it works inside the mask of a real explanation."""
        return self.mask is not None and self.mask.origins[0].name != "random"

    @property
    def condition(self) -> dict[str, Any]:
        """Attack, mask and budget, under the names of the columns of the rows."""
        return {
            "attack": self.attack,
            "attack_seed": self.seed,
            "explainer": None if self.mask is None else self.mask.explainer,
            "mask_source": self.mask_source,
            "scope": self.scope,
            "surface": self.victim.setting.surface,
            **self.budget.columns,
        }


@dataclass(frozen=True, eq=False)
class CertificateStep(KeyedStep):
    """Lower bounds on the margins of the attacked utterances in one condition."""

    key: str
    victim: VictimStep
    budget: PlannedBudget
    method: str | None
    settings: Mapping[str, Any]
    mask: MaskStep | None = None
    scope: int | None = None


@dataclass(frozen=True, eq=False)
class AlarmStep(KeyedStep):
    """Fit the alarms of one victim at one budget on utterances that are not attacked.

    `of_classes` are the utterances behind the mean map of each class.
    """

    key: str
    victim: VictimStep
    budget: PlannedBudget
    explainer: str
    name: str
    settings: Mapping[str, Any]
    fitted_on: tuple[tuple[str, Mapping[str, Any]], ...]
    of_classes: Part = field(repr=False)
    utterances: Part = field(repr=False)


@dataclass(frozen=True, eq=False)
class AlarmScoreStep(KeyedStep):
    """Scores of alarms for the utterances of one cell; without one, for the attack on the alarm."""

    key: str
    alarm: AlarmStep
    source: AttackStep | None
    evasion: Mapping[str, Any]

    @property
    def victim(self) -> VictimStep:
        """The attacked victim."""
        return self.alarm.victim


@dataclass(frozen=True, eq=False)
class CorruptionStep(KeyedStep):
    """One natural corruption of the attacked utterances, shown to one victim on the waveform."""

    key: str
    victim: VictimStep
    corruption: str
    settings: Mapping[str, Any]
    seed: int

    @property
    def condition(self) -> dict[str, Any]:
        """The corruption under the names of the columns of the rows; it has no mask or budget."""
        return {
            "attack": self.corruption,
            "attack_seed": self.seed,
            "surface": self.victim.setting.surface,
            "budget_snr": self.settings.get("snr"),
        }


@dataclass(frozen=True, eq=False)
class ReplayStep(KeyedStep):
    """The perturbations of one cell, replayed on another victim of the same fold."""

    key: str
    source: AttackStep
    victim: VictimStep


@dataclass(frozen=True, eq=False)
class ExemplarStep(KeyedStep):
    """One utterance of a cell in full, for the page; which one is known after the attacks."""

    key: str
    source: AttackStep
    utterance: str

    @property
    def victim(self) -> VictimStep:
        """The attacked victim."""
        return self.source.victim


RowStep = AttackStep | CorruptionStep
MaskedStep = FloorStep | AttackStep | CertificateStep
PartStep = SaliencyStep | FloorStep | RowStep | ReplayStep | CertificateStep | AlarmScoreStep
# One task each, on utterances of their own.
WholeStep = GradientStep | UniversalStep | AlarmStep
Step = VictimStep | WholeStep | PartStep | ExemplarStep


@dataclass(frozen=True)
class Plan:
    """All steps of a study, in the order in which the data flows.

    `samples` holds for each features, fold and surface the attacked utterances, in parts.
    """

    study: StudyConfig = field(repr=False)
    victims: tuple[VictimStep, ...]
    universals: tuple[UniversalStep, ...]
    saliencies: tuple[SaliencyStep, ...]
    floors: tuple[FloorStep, ...]
    attacks: tuple[AttackStep, ...]
    replays: tuple[ReplayStep, ...]
    samples: Mapping[Sample, tuple[Part, ...]] = field(repr=False)
    gradients: tuple[GradientStep, ...] = ()
    certificates: tuple[CertificateStep, ...] = ()
    corruptions: tuple[CorruptionStep, ...] = ()
    alarms: tuple[AlarmStep, ...] = ()
    alarm_scores: tuple[AlarmScoreStep, ...] = ()

    def parts(self, step: PartStep) -> Iterator[tuple[int, Part]]:
        """Number and utterances of each part of the attacked sample of a step."""
        return enumerate(self.samples[_sample(step)])

    def utterances(self, step: PartStep) -> int:
        """Number of utterances that a step works on."""
        return sum(len(part) for part in self.samples[_sample(step)])

    def needs(self) -> dict[str, list[str]]:
        """Names of the artefacts that the study needs, by the folder of the run they lie in."""
        return {
            "features": sorted({step.setting.store.name for step in self.victims}),
            "victims": list(dict.fromkeys(step.folder for step in self.victims)),
            "gradients": [step.key for step in self.gradients],
            "universal": [step.key for step in self.universals],
            "saliency": [step.key for step in self.saliencies],
            "floors": [step.key for step in self.floors],
            "attacks": [step.key for step in (*self.attacks, *self.corruptions)],
            "replays": [step.key for step in self.replays],
            "certificates": [step.key for step in self.certificates],
            "alarms": [step.key for step in (*self.alarms, *self.alarm_scores)],
        }


def _sample(step: PartStep) -> Sample:
    return step.sample if isinstance(step, SaliencyStep) else step.victim.sample
