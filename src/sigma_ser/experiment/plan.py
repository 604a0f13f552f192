"""From a study to content-addressed steps: what must be computed, and under which key it lies."""

from __future__ import annotations

import itertools
import platform
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from sigma_ser.core.budget import Budget
from sigma_ser.core.errors import ConfigError
from sigma_ser.core.files import content_key
from sigma_ser.core.seeds import derive_seed

from .config import AttackSection, StudyConfig

if TYPE_CHECKING:
    from sigma_ser.corpora.corpus import Corpus
    from sigma_ser.corpora.folds import Fold

# Utterances of one file of results: small enough to lose little, large enough to be few.
PART_UTTERANCES = 256


@dataclass(frozen=True)
class VictimStep:
    """Train one head on one fold with one seed."""

    key: str
    name: str
    fold: Fold
    head: str
    head_settings: Mapping[str, Any]
    training: Mapping[str, Any]
    seed: int


@dataclass(frozen=True)
class SaliencyStep:
    """Explain the true class of each attacked utterance, once, for all masks and comparisons."""

    key: str
    victim: VictimStep
    explainer: str
    name: str
    settings: Mapping[str, Any]


@dataclass(frozen=True)
class FloorStep:
    """What a random perturbation in the same mask, with the same budget, leaves of a map."""

    key: str
    victim: VictimStep
    budget: Mapping[str, Any]
    mask: SaliencyStep | None
    scope: int | None
    reference: SaliencyStep


@dataclass(frozen=True)
class AttackStep:
    """One cell: one attack on one victim in one condition."""

    key: str
    victim: VictimStep
    attack: str
    settings: Mapping[str, Any]
    budget: Mapping[str, Any]
    mask: SaliencyStep | None
    scope: int | None
    reference: SaliencyStep | None
    floor: FloorStep | None

    @property
    def mask_source(self) -> str | None:
        """The victim whose map made the mask: `own`, a name, or null for a native attack."""
        if self.mask is None:
            return None
        return "own" if self.mask.victim.key == self.victim.key else self.mask.victim.name


@dataclass(frozen=True)
class Plan:
    """All steps of a study, in the order in which the data flows."""

    study: StudyConfig
    victims: tuple[VictimStep, ...]
    saliencies: tuple[SaliencyStep, ...]
    floors: tuple[FloorStep, ...]
    attacks: tuple[AttackStep, ...]
    samples: Mapping[str, tuple[tuple[str, ...], ...]] = field(repr=False)

    def parts(self, fold: str) -> Iterator[tuple[int, tuple[str, ...]]]:
        """Number and utterances of each part of the attacked sample of a fold."""
        return enumerate(self.samples[fold])


def budget_of(values: Mapping[str, Any]) -> Budget:
    """The budget that a step names."""
    return Budget(**values)


def key_of_features(corpus: Corpus, encoder_key: str) -> str:
    """Under which key the features of a corpus lie."""
    return _key("features", corpus.key, encoder_key)


def make_plan(
    study: StudyConfig,
    *,
    corpus: Corpus,
    folds: Sequence[Fold],
    features_key: str,
    lengths: Mapping[str, int],
) -> Plan:
    """Plan a study.

    Args:
        study: what is asked for.
        corpus: the recordings.
        folds: those of the protocol that the study runs.
        features_key: of the features; see `key_of_features`.
        lengths: frames of each utterance, so that parts hold utterances of like length.

    Raises:
        ConfigError: if the study names something that it does not define.
    """
    samples = {fold.name: _parts(study, corpus, fold, lengths) for fold in folds}
    victims = tuple(_victims(study, folds, features_key))
    names = {victim.name for victim in victims}
    saliencies: dict[str, SaliencyStep] = {}
    floors: dict[str, FloorStep] = {}
    attacks: dict[str, AttackStep] = {}

    def saliency(victim: VictimStep, explainer: str, extra: Mapping[str, Any]) -> SaliencyStep:
        settings = {**study.explainers.get(explainer, {}), **extra}
        name = str(settings.pop("name", explainer))
        key = _key("saliency", victim.key, name, settings, samples[victim.fold.name])
        return saliencies.setdefault(key, SaliencyStep(key, victim, explainer, name, settings))

    for victim in victims:
        reference = None
        if study.consistency.explainer is not None:
            reference = saliency(victim, study.consistency.explainer, study.consistency.settings)
        for attack, budget in itertools.product(study.attacks, _budgets(study)):
            for explainer, source, scope in _conditions(attack, names):
                mask = None
                if explainer is not None:
                    owner = _same_fold(victims, victim, source)
                    mask = saliency(owner, explainer, {})
                floor = None
                if reference is not None:
                    key = _key("floor", victim.key, _id(mask), scope, budget, reference.key)
                    floor = floors.setdefault(
                        key, FloorStep(key, victim, budget, mask, scope, reference)
                    )
                key = _key(
                    "attack", victim.key, attack.name, attack.settings, _id(mask), scope, budget,
                    _id(reference), study.evaluation.seed, study.evaluation.batch_size,
                    samples[victim.fold.name],
                )  # fmt: skip
                attacks[key] = AttackStep(
                    key, victim, attack.name, attack.settings, budget, mask, scope, reference, floor
                )
    return Plan(
        study,
        victims,
        tuple(saliencies.values()),
        tuple(floors.values()),
        tuple(attacks.values()),
        samples,
    )


def _victims(study: StudyConfig, folds: Sequence[Fold], features_key: str) -> Iterator[VictimStep]:
    heads = [section.head for section in study.victims]
    for section in study.victims:
        if heads.count(section.head) > 1 and section.name is None:
            raise ConfigError(
                f"the study has {heads.count(section.head)} victims with head {section.head!r}; "
                "give each a name = of its own"
            )
    for fold, section in itertools.product(folds, study.victims):
        for seed in section.seeds:
            name = section.name or section.head
            key = _key(
                "victim", features_key, fold.key, section.head, section.head_settings,
                section.settings, seed,
            )  # fmt: skip
            yield VictimStep(
                key,
                name if len(section.seeds) == 1 else f"{name}-{seed}",
                fold,
                section.head,
                section.head_settings,
                section.settings,
                seed,
            )


def _conditions(
    attack: AttackSection, victims: set[str]
) -> Iterator[tuple[str | None, str, int | None]]:
    """Explainer, mask source and scope of each cell; the native one has none."""
    if attack.native:
        yield None, "own", None
    for source in attack.mask_sources:
        if source != "own" and source not in victims:
            raise ConfigError(
                f"attack {attack.name!r} takes masks from {source!r}, which is no victim of the "
                f"study; its victims: {', '.join(sorted(victims))}"
            )
    yield from itertools.product(attack.explainers, attack.mask_sources, attack.scopes)


def _same_fold(victims: Sequence[VictimStep], target: VictimStep, source: str) -> VictimStep:
    if source == "own":
        return target
    return next(v for v in victims if v.name == source and v.fold == target.fold)


def _budgets(study: StudyConfig) -> Iterator[dict[str, Any]]:
    budgets = study.budgets
    for granularity, epsilon, sparsity in itertools.product(
        budgets.granularity, budgets.epsilon, budgets.sparsity
    ):
        yield {"sparsity": sparsity, "epsilon": epsilon, "granularity": granularity}


def _parts(
    study: StudyConfig, corpus: Corpus, fold: Fold, lengths: Mapping[str, int]
) -> tuple[tuple[str, ...], ...]:
    """The attacked test utterances, of like length in each part, in an order fixed by content."""
    chosen = sorted(_sample(study, corpus, fold), key=lambda name: (lengths[name], name))
    return tuple(
        tuple(chosen[start : start + PART_UTTERANCES])
        for start in range(0, len(chosen), PART_UTTERANCES)
    )


def _sample(study: StudyConfig, corpus: Corpus, fold: Fold) -> list[str]:
    wanted, seed = study.evaluation.utterances, study.evaluation.seed
    if wanted is None or wanted >= len(fold.test):
        return list(fold.test)
    by_class: dict[str, list[str]] = {}
    for name in sorted(fold.test, key=lambda name: derive_seed("sample", seed, name)):
        by_class.setdefault(corpus[name].label, []).append(name)
    turns = itertools.chain.from_iterable(
        itertools.zip_longest(*(by_class[label] for label in sorted(by_class)))
    )
    return list(itertools.islice((name for name in turns if name is not None), wanted))


def _key(kind: str, *parts: Any) -> str:
    return content_key([kind, _versions(), *parts])


def _id(step: SaliencyStep | None) -> str | None:
    return None if step is None else step.key


def _versions() -> dict[str, str]:
    """What may change a number besides the inputs: part of every key."""
    import torch

    from sigma_ser import __version__

    return {"sigma-ser": __version__, "torch": torch.__version__, "machine": platform.machine()}
