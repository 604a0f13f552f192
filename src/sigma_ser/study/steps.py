"""The steps of a study: what each one computes, from which others, and under which key."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sigma_ser.core.budget import Budget
from sigma_ser.core.files import safe_name
from sigma_ser.core.utterance import Utterance

from .config import CONSENSUS, OWN, UNIVERSAL, StudyConfig

if TYPE_CHECKING:
    from sigma_ser.corpora.folds import Fold

Part = Sequence[Utterance]
# Digits of a key in the name of a folder that people read.
_NAME_DIGITS = 8


@dataclass(frozen=True)
class Setting:
    """What all victims of one corpus, protocol, encoder and layer share; rows repeat it.

    `features` is the key of the features and `store` the folder in which they lie;
    `frame_seconds` is the time from one frame to the next.
    """

    corpus: str
    protocol: str
    encoder: str
    layer: str
    features: str
    store: Path
    frame_seconds: float


class KeyedStep:
    """Steps compare and hash by their keys, which determine their results."""

    key: str

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and self.key == getattr(other, "key", None)

    def __hash__(self) -> int:
        return hash(self.key)


@dataclass(frozen=True, eq=False)
class VictimStep(KeyedStep):
    """Train one head on one fold with one seed, or load a victim and score it."""

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
    attacked: bool = True

    @property
    def folder(self) -> str:
        """Name of its folder, for people: `mlp-test-OAF-0-1fcb7092`."""
        return safe_name(f"{self.name}-{self.fold.name}-{self.seed}-{self.key[:_NAME_DIGITS]}")

    @property
    def sample(self) -> tuple[str, str]:
        """Under which its attacked utterances are kept in the plan."""
        return self.setting.features, self.fold.key


@dataclass(frozen=True, eq=False)
class SaliencyStep(KeyedStep):
    """Explain the true class of each attacked utterance, once, for all masks and comparisons."""

    key: str
    victim: VictimStep
    explainer: str
    name: str
    settings: Mapping[str, Any]


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
    budget: Budget
    utterances: Part = field(repr=False)


@dataclass(frozen=True, eq=False)
class CertificateStep(KeyedStep):
    """Lower bounds on the margins of the attacked utterances at one budget, without a mask."""

    key: str
    victim: VictimStep
    budget: Budget
    method: str | None
    settings: Mapping[str, Any]


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
    budget: Budget
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
    budget: Budget
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
            "granularity": self.budget.granularity,
            "sparsity": self.budget.sparsity,
            "epsilon": float(self.budget.epsilon),
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


PartStep = SaliencyStep | FloorStep | AttackStep | ReplayStep | CertificateStep
Step = VictimStep | GradientStep | UniversalStep | PartStep | ExemplarStep


@dataclass(frozen=True)
class Plan:
    """All steps of a study, in the order in which the data flows.

    `samples` holds for each features and fold the attacked utterances, in parts.
    """

    study: StudyConfig = field(repr=False)
    victims: tuple[VictimStep, ...]
    universals: tuple[UniversalStep, ...]
    saliencies: tuple[SaliencyStep, ...]
    floors: tuple[FloorStep, ...]
    attacks: tuple[AttackStep, ...]
    replays: tuple[ReplayStep, ...]
    samples: Mapping[tuple[str, str], tuple[Part, ...]] = field(repr=False)
    gradients: tuple[GradientStep, ...] = ()
    certificates: tuple[CertificateStep, ...] = ()

    def parts(self, step: PartStep) -> Iterator[tuple[int, Part]]:
        """Number and utterances of each part of the attacked sample of a step."""
        return enumerate(self.samples[step.victim.sample])

    def utterances(self, step: PartStep) -> int:
        """Number of utterances that a step works on."""
        return sum(len(part) for part in self.samples[step.victim.sample])

    def needs(self) -> dict[str, list[str]]:
        """Names of the artefacts that the study needs, by the folder of the run they lie in."""
        return {
            "features": sorted({step.setting.store.name for step in self.victims}),
            "victims": [step.folder for step in self.victims],
            "gradients": [step.key for step in self.gradients],
            "universal": [step.key for step in self.universals],
            "saliency": [step.key for step in self.saliencies],
            "floors": [step.key for step in self.floors],
            "attacks": [step.key for step in self.attacks],
            "replays": [step.key for step in self.replays],
            "certificates": [step.key for step in self.certificates],
        }


def own_or_name(mask: SaliencyStep, target: VictimStep) -> str:
    """The name of a mask source in the rows."""
    source = mask.victim
    if source.key == target.key:
        return OWN
    if source.setting == target.setting:
        return source.name
    return f"{source.name}@{source.setting.encoder}:{source.setting.layer}"


def described(step: Step) -> str:
    """A step in the words of its study."""
    match step:
        case VictimStep():
            text = f"{step.name} on {step.fold.name}"
        case SaliencyStep():
            text = f"{step.explainer} of {described(step.victim)}"
        case GradientStep():
            text = f"gradient check of {described(step.victim)}"
        case UniversalStep():
            text = f"universal {step.explainer} of {described(step.victim)}"
        case FloorStep():
            text = f"consistency floor of {described(step.victim)}"
        case AttackStep():
            mask = "" if step.mask is None else f" in {step.mask.explainer} of {step.mask.source}"
            text = f"{step.attack}{mask} on {described(step.victim)}"
        case ReplayStep():
            text = f"{described(step.source)}, replayed on {step.victim.name}"
        case CertificateStep():
            text = f"certificate of {described(step.victim)}"
        case ExemplarStep():
            text = f"{step.utterance} under {described(step.source)}"
    return text
