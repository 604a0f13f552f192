"""Training a head on one fold, from features to a victim with its card."""

from __future__ import annotations

import dataclasses
import json
import platform
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor, nn

from sigma_ser.core.errors import VictimError
from sigma_ser.core.files import content_key
from sigma_ser.core.progress import stage
from sigma_ser.core.seeds import derive_seed
from sigma_ser.corpora.folds import Fold
from sigma_ser.encoders.store import FeatureStore

from .checkpoint import CARD, TrainedVictim, VictimCard, make_head, read_card
from .evaluation import evaluate
from .exposure import recording_digests
from .fitting import TrainingContext, TrainingModel, fit
from .layers import LayerSum, layer_covariance
from .settings import AdversarialTraining, TrainingSettings
from .victim import Standardised, usable_scale

__all__ = ["AdversarialTraining", "TrainingSettings", "train", "trained_before"]


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
    afterwards; the victim then takes the `(T, D)` features of `victim.view(store)`.

    Args:
        store: features of the corpus.
        fold: the utterances to train, validate and test on.
        head: name of a registered head.
        seed: random seed of the initial weights, the batch order and dropout.
        head_settings: keyword arguments of the head.
        adversarial: train on attacked features as well; `None` trains on clean features only.
        progress: called with (epochs done, maximum number of epochs) after each epoch.
        **training: fields of `TrainingSettings`.

    Returns:
        The victim of the best validation epoch, with its validation and test metrics in the card.

    Raises:
        VictimError: if a class has fewer than two training utterances, a setting is unknown or
            out of its range, or the loss is not finite.
    """
    settings = TrainingSettings.of(training)
    classes = store.class_names
    targets = dict(zip(fold.train, store.labels(fold.train).tolist(), strict=True))
    counts = _class_counts(fold, classes, targets)
    recipe = _recipe(store, fold, head, seed, head_settings, settings, adversarial)

    # Dropout and initialisation draw from the global generator, which fork_rng restores.
    with torch.random.fork_rng():
        torch.manual_seed(derive_seed(seed, "train", head, fold.name))
        model = _new_model(store, fold, head, head_settings or {})
        weights = counts.sum() / (len(classes) * counts) if settings.class_weights else None
        context = TrainingContext(
            store=store,
            fold=fold,
            targets=targets,
            criterion=nn.CrossEntropyLoss(weights, label_smoothing=settings.label_smoothing),
            settings=settings,
            adversarial=adversarial,
            seed=seed,
            rng=torch.Generator().manual_seed(derive_seed(seed, "order", fold.name)),
        )
        with stage(f"training of {head}", settings.epochs) as advance:

            def after_epoch(done: int, total: int) -> None:
                advance(1)
                if progress is not None:
                    progress(done, total)

            epochs = fit(model, context, after_epoch)

    recordings = frozenset(recording_digests(store, (*fold.train, *fold.validation)))
    module = model.classifier
    if model.layers is not None:
        store = store.weighted(model.layers.weights.detach())
        module = Standardised(module.head, *_moments(store, fold))
    card = VictimCard(
        channels=len(module.scale),
        class_names=tuple(classes),
        corpus=str(store.card["corpus"]["name"]),
        encoder=store.card["encoder"],
        metrics={},
        versions={"torch": torch.__version__, "python": platform.python_version()},
        recordings_key=content_key(sorted(recordings)),
        **{**recipe, "training": {**recipe["training"], "epochs_run": epochs}},
    )
    victim = TrainedVictim(module, card)
    metrics = {
        part: evaluate(victim, store, ids)
        for part, ids in (("validation", fold.validation), ("test", fold.test))
        if ids
    }
    return TrainedVictim(module, dataclasses.replace(card, metrics=metrics), fold, recordings)


def trained_before(
    folder: Path | str,
    *,
    store: FeatureStore,
    fold: Fold,
    head: str = "mlp",
    seed: int = 0,
    head_settings: Mapping[str, Any] | None = None,
    training: Mapping[str, Any] | None = None,
    adversarial: AdversarialTraining | None = None,
) -> TrainedVictim | None:
    """Load the victim in a folder if `train` with the same arguments produced it.

    Args:
        folder: where an earlier victim may have been saved.
        store: features of the corpus, compared by their key.
        fold: the fold, compared by its key.
        head: name of the head.
        seed: seed of the training.
        head_settings: keyword arguments of the head.
        training: fields of `TrainingSettings`; those left out have their defaults.
        adversarial: adversarial training; its attack is compared by its `repr`.

    Returns:
        The saved victim; `None` if the folder holds none.

    Raises:
        VictimError: if the victim was trained with other arguments or its files are damaged, or if
            a setting is unknown or out of its range.
    """
    folder = Path(folder)
    settings = TrainingSettings.of(training or {})
    if not (folder / CARD).is_file():
        return None
    recipe = _recipe(store, fold, head, seed, head_settings, settings, adversarial)
    card = read_card(folder)
    saved = {name: getattr(card, name) for name in recipe}
    # Cards of earlier versions lack the settings that came later.
    defaults = dataclasses.asdict(TrainingSettings())
    saved["training"] = {
        name: value for name, value in {**defaults, **card.training}.items() if name != "epochs_run"
    }
    # The card has been through JSON, which turns tuples into lists.
    expected = json.loads(json.dumps(recipe))
    differing = [name for name in recipe if saved[name] != expected[name]]
    if differing:
        raise VictimError(
            f"{folder} holds a victim that was trained with other settings "
            f"({', '.join(differing)}); choose another folder, or delete this one"
        )
    return TrainedVictim.load(folder)


def _recipe(  # noqa: PLR0917 - the arguments of `train`
    store: FeatureStore,
    fold: Fold,
    head: str,
    seed: int,
    head_settings: Mapping[str, Any] | None,
    settings: TrainingSettings,
    adversarial: AdversarialTraining | None,
) -> dict[str, Any]:
    """The entries of a victim's card that are known before training and determine its weights."""
    training = dataclasses.asdict(settings)
    if adversarial is not None:
        training["adversarial"] = adversarial.described()
    return {
        "head": head,
        "head_settings": dict(head_settings or {}),
        "fold": fold.name,
        "seed": seed,
        "training": training,
        "fold_key": fold.key,
        "store_key": store.key,
    }


def _class_counts(
    fold: Fold, classes: tuple[str, ...], targets: Mapping[str, int]
) -> Int[Tensor, "C"]:
    """Number of training utterances of each class; at least two are required."""
    counts = torch.bincount(torch.tensor(list(targets.values())), minlength=len(classes))
    for few, described in ((0, "no training utterance"), (1, "only one training utterance")):
        short = [name for name, count in zip(classes, counts.tolist(), strict=True) if count == few]
        if short:
            raise VictimError(
                f"fold {fold.name!r} has {described} of {', '.join(short)}; "
                "choose another protocol, or a corpus with these classes left out"
            )
    return counts


def _new_model(
    store: FeatureStore, fold: Fold, head: str, head_settings: Mapping[str, Any]
) -> TrainingModel:
    classes = len(store.class_names)
    mean, scale = _moments(store, fold)
    if store.layers == 1:
        module = make_head(head, len(scale), classes, head_settings)
        return TrainingModel(Standardised(module, mean, scale), None)
    layers = LayerSum(mean, layer_covariance(store, fold.train, mean))
    mean, deviation = layers.moments()
    module = make_head(head, len(mean), classes, head_settings)
    return TrainingModel(Standardised(module, mean, usable_scale(deviation)), layers)


def _moments(store: FeatureStore, fold: Fold) -> tuple[Tensor, Tensor]:
    statistics = store.statistics(fold.train)
    return statistics.mean, usable_scale(statistics.std)
