"""Training a head on one fold, from features to a victim with its card."""

from __future__ import annotations

import dataclasses
import platform
from collections.abc import Callable, Mapping
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor, nn

from sigma_ser.core.errors import VictimError
from sigma_ser.core.seeds import derive_seed
from sigma_ser.corpora.folds import Fold
from sigma_ser.encoders.store import FeatureStore

from .checkpoint import TrainedVictim, VictimCard, make_head
from .evaluation import evaluate
from .fitting import Lesson, Pupil, fit
from .layers import LayerSum, layer_covariance
from .settings import AdversarialTraining, TrainingSettings
from .victim import Standardised, usable_scale

__all__ = ["AdversarialTraining", "TrainingSettings", "train"]


def train(
    store: FeatureStore,
    fold: Fold,
    head: str = "mlp",
    seed: int = 0,
    *,
    head_settings: Mapping[str, Any] | None = None,
    adversarial: AdversarialTraining | None = None,
    progress: Callable[[int, int], None] | None = None,
    **training: Any,
) -> TrainedVictim:
    """Train a head on the training part of a fold.

    On features of `layer="all"` a weighted sum of the layers is learnt with the head and frozen
    afterwards: the victim is then one on the `(T, D)` features of `victim.heard(store)`.

    Args:
        store: features of the corpus.
        fold: which utterances train, validate and test.
        head: name of a registered head.
        seed: fixes initial weights, order and dropout.
        head_settings: keyword arguments of the head.
        adversarial: also train on attacked features; `None` trains on clean ones alone.
        progress: called with (epochs done, epochs at the most).
        **training: fields of `TrainingSettings`.

    Returns:
        The victim of the best validation epoch, with its test metrics in the card.

    Raises:
        VictimError: if a class has fewer than two training utterances, a setting is unknown or
            out of its range, or the loss is not finite.
    """
    settings = TrainingSettings.of(training)
    classes = store.class_names
    targets = dict(zip(fold.train, store.labels(fold.train).tolist(), strict=True))
    counts = _counted(fold, classes, targets)

    # Dropout and initialisation draw from the global generator: fork it, and leave no trace.
    with torch.random.fork_rng():
        torch.manual_seed(derive_seed(seed, "train", head, fold.name))
        pupil = _pupil(store, fold, head, head_settings or {})
        weights = counts.sum() / (len(classes) * counts) if settings.class_weights else None
        lesson = Lesson(
            store=store,
            fold=fold,
            targets=targets,
            criterion=nn.CrossEntropyLoss(weights, label_smoothing=settings.label_smoothing),
            settings=settings,
            adversarial=adversarial,
            seed=seed,
            rng=torch.Generator().manual_seed(derive_seed(seed, "order", fold.name)),
        )
        epochs = fit(pupil, lesson, progress)

    module = pupil.judge
    if pupil.layers is not None:
        store = store.weighted(pupil.layers.weights.detach())
        module = Standardised(module.head, *_moments(store, fold))
    described = {**dataclasses.asdict(settings), "epochs_run": epochs}
    if adversarial is not None:
        described["adversarial"] = adversarial.described()
    card = VictimCard(
        head=head,
        head_settings=dict(head_settings or {}),
        channels=len(module.scale),
        class_names=tuple(classes),
        corpus=str(store.card["corpus"]["name"]),
        fold=fold.name,
        seed=seed,
        encoder=store.card["encoder"],
        training=described,
        metrics={},
        versions={"torch": torch.__version__, "python": platform.python_version()},
        fold_key=fold.key,
    )
    victim = TrainedVictim(module, card)
    metrics = {
        part: evaluate(victim, store, ids)
        for part, ids in (("validation", fold.validation), ("test", fold.test))
        if ids
    }
    return TrainedVictim(module, dataclasses.replace(card, metrics=metrics), fold)


def _counted(fold: Fold, classes: tuple[str, ...], targets: Mapping[str, int]) -> Int[Tensor, "C"]:
    """Training utterances of each class; one is too few to learn from."""
    counts = torch.bincount(torch.tensor(list(targets.values())), minlength=len(classes))
    for few, said in ((0, "no training utterance"), (1, "only one training utterance")):
        short = [name for name, count in zip(classes, counts.tolist(), strict=True) if count == few]
        if short:
            raise VictimError(
                f"fold {fold.name!r} has {said} of {', '.join(short)}; "
                "choose another protocol, or a corpus with these classes left out"
            )
    return counts


def _pupil(store: FeatureStore, fold: Fold, head: str, head_settings: Mapping[str, Any]) -> Pupil:
    classes = len(store.class_names)
    mean, scale = _moments(store, fold)
    if store.layers == 1:
        module = make_head(head, len(scale), classes, head_settings)
        return Pupil(Standardised(module, mean, scale), None)
    layers = LayerSum(mean, layer_covariance(store, fold.train, mean))
    mean, deviation = layers.moments()
    module = make_head(head, len(mean), classes, head_settings)
    return Pupil(Standardised(module, mean, usable_scale(deviation)), layers)


def _moments(store: FeatureStore, fold: Fold) -> tuple[Tensor, Tensor]:
    statistics = store.statistics(fold.train)
    return statistics.mean, usable_scale(statistics.std)
