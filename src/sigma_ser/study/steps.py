"""The steps of a study: what each one computes, from which others, and under which key it lies."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from sigma_ser.core.utterance import Utterance

from .config import CONSENSUS, OWN, UNIVERSAL, StudyConfig

if TYPE_CHECKING:
    from sigma_ser.corpora.folds import Fold

Part = Sequence[Utterance]


@dataclass(frozen=True)
class Setting:
    """What holds for all victims of one corpus, protocol, encoder and layer; rows repeat it.

    `features` is the key of the features, `frame_seconds` the time from one frame to the next.
    """

    corpus: str
    protocol: str
    encoder: str
    layer: str
    features: str
    frame_seconds: float


class Keyed:
    """Steps are what their keys say, so they compare and hash by them."""

    key: str

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and self.key == getattr(other, "key", None)

    def __hash__(self) -> int:
        return hash(self.key)


@dataclass(frozen=True, eq=False)
class VictimStep(Keyed):
    """Train one head on one fold with one seed, or take one that is there already."""

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

    @property
    def sample(self) -> tuple[str, str]:
        """Under which its attacked utterances are kept in the plan."""
        return self.setting.features, self.fold.key


@dataclass(frozen=True, eq=False)
class SaliencyStep(Keyed):
    """Explain the true class of each attacked utterance, once, for all masks and comparisons."""

    key: str
    victim: VictimStep
    explainer: str
    name: str
    settings: Mapping[str, Any]


@dataclass(frozen=True, eq=False)
class UniversalStep(Keyed):
    """One map for a whole victim, from utterances that are not attacked."""

    key: str
    victim: VictimStep
    explainer: str
    name: str
    settings: Mapping[str, Any]
    utterances: Part = field(repr=False)


@dataclass(frozen=True)
class MaskStep:
    """Whose maps make a mask: those of one victim, the mean of several, or a universal one.

    Nothing is computed for it: masks come out of the maps in a moment.
    """

    explainer: str
    source: str
    maps: tuple[SaliencyStep, ...] = ()
    universal: UniversalStep | None = None

    @property
    def key(self) -> str:
        """What it is made of."""
        kind = self.source if self.source in (CONSENSUS, UNIVERSAL) else ""
        return kind + "+".join(one.key for one in self.origins)

    @property
    def origins(self) -> tuple[SaliencyStep | UniversalStep, ...]:
        """The steps that must have been done."""
        return self.maps if self.universal is None else (self.universal,)


@dataclass(frozen=True, eq=False)
class FloorStep(Keyed):
    """What a random perturbation in the same mask, with the same budget, leaves of a map."""

    key: str
    victim: VictimStep
    budget: Mapping[str, Any]
    mask: MaskStep | None
    scope: int | None
    reference: SaliencyStep


@dataclass(frozen=True, eq=False)
class AttackStep(Keyed):
    """One cell: one attack on one victim in one condition."""

    key: str
    victim: VictimStep
    attack: str
    settings: Mapping[str, Any]
    seed: int
    budget: Mapping[str, Any]
    mask: MaskStep | None
    scope: int | None
    reference: SaliencyStep | None
    floor: FloorStep | None
    keep_perturbations: bool = False

    @property
    def mask_source(self) -> str | None:
        """Whose map made the mask: `own`, a victim's name ..., or null for a native attack."""
        return None if self.mask is None else self.mask.source

    @property
    def guided(self) -> bool:
        """Whether it works inside the mask of a real explanation."""
        return self.mask is not None and self.mask.origins[0].name != "random"


@dataclass(frozen=True, eq=False)
class ReplayStep(Keyed):
    """The perturbations of one cell, shown to another victim of the same fold."""

    key: str
    source: AttackStep
    victim: VictimStep


PartStep = SaliencyStep | FloorStep | AttackStep | ReplayStep
Step = VictimStep | UniversalStep | PartStep


@dataclass(frozen=True)
class Plan:
    """All steps of a study, in the order in which the data flows.

    `samples` holds for each features and fold the attacked utterances, in parts; `batch_size` and
    `seed` say how the parts are worked through.
    """

    study: StudyConfig = field(repr=False)
    victims: tuple[VictimStep, ...]
    universals: tuple[UniversalStep, ...]
    saliencies: tuple[SaliencyStep, ...]
    floors: tuple[FloorStep, ...]
    attacks: tuple[AttackStep, ...]
    replays: tuple[ReplayStep, ...]
    samples: Mapping[tuple[str, str], tuple[Part, ...]] = field(repr=False)

    def parts(self, step: PartStep) -> Iterator[tuple[int, Part]]:
        """Number and utterances of each part of the attacked sample of a step."""
        return enumerate(self.samples[step.victim.sample])

    def utterances(self, step: PartStep) -> int:
        """How many utterances a step works on."""
        return sum(len(part) for part in self.samples[step.victim.sample])


def own_or_name(mask: SaliencyStep, target: VictimStep) -> str:
    """What the rows call the source of a mask."""
    source = mask.victim
    if source.key == target.key:
        return OWN
    if source.setting == target.setting:
        return source.name
    return f"{source.name}@{source.setting.encoder}:{source.setting.layer}"
