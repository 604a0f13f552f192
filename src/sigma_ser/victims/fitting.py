"""The training loop: AdamW, warm-up and cosine, early stopping on validation UAR."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from sigma_ser.core.errors import VictimError
from sigma_ser.core.features import FeatureBatch, valid_frames, zero_padding
from sigma_ser.core.seeds import utterance_seeds
from sigma_ser.corpora.folds import Fold
from sigma_ser.encoders.store import FeatureStore
from sigma_ser.execution.memory import Slack
from sigma_ser.statistics.classification import confusion_matrix, uar

from .evaluation import predict_logits
from .layers import LayerSum
from .settings import AdversarialTraining, TrainingSettings
from .victim import Standardised, WrappedVictim, usable_scale


class TrainingModel(nn.Module):
    """A head during training: standardised, and behind a learned sum of layers where there are any.

    `surface(x)` is the input of the finished victim, `classifier` the victim on that input.

    Args:
        classifier: the head with the standardisation of its input.
        layers: the learned sum over hidden states; `None` for features of one layer.
    """

    def __init__(self, classifier: Standardised, layers: LayerSum | None) -> None:
        super().__init__()
        self.classifier = classifier
        self.layers = layers

    def update_statistics(self) -> None:
        """Recompute mean and scale from the layer weights; required after every optimiser step."""
        if self.layers is not None:
            mean, deviation = self.layers.moments()
            self.classifier.mean, self.classifier.scale = mean, usable_scale(deviation)

    def surface(self, x: Float[Tensor, "B T F"]) -> Float[Tensor, "B T D"]:
        """Return the features themselves, or the weighted sum of their layers."""
        if self.layers is None:
            return x
        summed: Tensor = self.layers(x)
        return summed

    def forward(self, x: Float[Tensor, "B T F"], lengths: Int[Tensor, "B"]) -> Float[Tensor, "B C"]:
        """Return the logits of stored features, which hold one layer or all of them."""
        logits: Tensor = self.classifier(self.surface(x), lengths)
        return logits


@dataclass(frozen=True)
class TrainingContext:
    """The data, loss and settings of a training run, fixed while the model changes.

    `targets` maps the id of each training utterance to its class index; `rng` draws the order of
    the batches, the noise and the mixup partners; `seed` derives the seeds of the attack.
    """

    store: FeatureStore
    fold: Fold
    targets: Mapping[str, int]
    criterion: nn.CrossEntropyLoss
    settings: TrainingSettings
    adversarial: AdversarialTraining | None
    seed: int
    rng: torch.Generator


def fit(
    model: TrainingModel, context: TrainingContext, progress: Callable[[int, int], None] | None
) -> int:
    """Train a model in place; it ends with the weights of its best validation epoch, in eval mode.

    A fold without a validation part is trained for all epochs, and the last weights are kept.
    AdamW (Loshchilov & Hutter 2019) with linear warm-up and cosine decay; gradients are clipped.

    Args:
        model: the head and, where there are several layers, their learned sum; changed in place.
        context: data, loss and settings.
        progress: called with (epochs done, maximum number of epochs) after each epoch.

    Returns:
        The number of epochs run.

    Raises:
        VictimError: if the loss is not finite.
    """
    settings, store, fold = context.settings, context.store, context.fold
    lengths = dict(zip(fold.train, store.lengths(fold.train).tolist(), strict=True))
    steps = settings.epochs * math.ceil(len(lengths) / settings.batch_size)
    optimizer = torch.optim.AdamW(_decayed(model, settings.weight_decay), lr=settings.learning_rate)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: _warmup_cosine(step, steps, settings.warmup)
    )
    slack = Slack()
    best, best_state, waited = (-math.inf, -math.inf), copy.deepcopy(model.state_dict()), 0
    for epoch in range(settings.epochs):
        model.train()
        for ids in _batches(lengths, settings.batch_size, context.rng):
            loss = _loss(model, ids, epoch, context)
            if not bool(torch.isfinite(loss)):
                raise VictimError(
                    f"the loss became {loss.item()} in epoch {epoch + 1}; "
                    "lower learning_rate, or check the features for extreme values"
                )
            optimizer.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            nn.utils.clip_grad_norm_(model.parameters(), settings.clip)
            optimizer.step()
            schedule.step()
            model.update_statistics()
            slack.give_back()
        model.eval()
        if progress is not None:
            progress(epoch + 1, settings.epochs)
        if not fold.validation:
            continue
        score = _validation_score(model, context)
        # A lower loss at equal UAR is kept, but does not reset the patience.
        waited = 0 if score[0] > best[0] else waited + 1
        if score > best:
            best, best_state = score, copy.deepcopy(model.state_dict())
        if waited >= settings.patience:
            break
    if fold.validation:
        model.load_state_dict(best_state)
    model.eval()
    return epoch + 1


def _loss(model: TrainingModel, ids: Sequence[str], epoch: int, context: TrainingContext) -> Tensor:
    batch = context.store.batch(ids)
    x, lengths = model.surface(batch.x), batch.lengths
    labels = torch.tensor([context.targets[name] for name in ids])
    plan = context.adversarial
    if plan is None:
        return _clean_loss(model.classifier, x, lengths, labels, context)
    delta = _perturbation(model, FeatureBatch(x.detach(), lengths, ids), labels, epoch, context)
    loss: Tensor = plan.share * context.criterion(model.classifier(x + delta, lengths), labels)
    if plan.share < 1:
        loss = loss + (1 - plan.share) * _clean_loss(model.classifier, x, lengths, labels, context)
    return loss


def _clean_loss(
    classifier: Standardised,
    x: Float[Tensor, "B T D"],
    lengths: Int[Tensor, "B"],
    labels: Int[Tensor, "B"],
    context: TrainingContext,
) -> Tensor:
    settings, criterion, rng = context.settings, context.criterion, context.rng
    if settings.frame_dropout:
        x, lengths = without_frames(x, lengths, settings.frame_dropout, rng)
    if settings.noise:
        x = x + settings.noise * classifier.scale * torch.randn(x.shape, generator=rng)
    if not settings.mixup:
        loss: Tensor = criterion(classifier(x, lengths), labels)
        return loss
    # Utterances differ in length, so features are mixed over the shorter of each pair.
    share = float(torch.distributions.Beta(settings.mixup, settings.mixup).sample())
    partner = torch.randperm(len(x), generator=rng)
    logits = classifier(
        share * x + (1 - share) * x[partner], torch.minimum(lengths, lengths[partner])
    )
    mixed: Tensor = share * criterion(logits, labels) + (1 - share) * criterion(
        logits, labels[partner]
    )
    return mixed


def without_frames(
    x: Float[Tensor, "B T D"], lengths: Int[Tensor, "B"], share: float, rng: torch.Generator
) -> tuple[Float[Tensor, "B R D"], Int[Tensor, "B"]]:
    """Leave out a random share of the frames of each utterance, at least one frame remains.

    Args:
        x: features.
        lengths: valid frames `(B,)`.
        share: share of the frames that are left out, in [0, 1).
        rng: draws the frames.

    Returns:
        The remaining frames in their order, and their numbers.
    """
    kept = ((1 - share) * lengths).round().long().clamp(min=1)
    scores = torch.rand(x.shape[:2], generator=rng)
    scores = scores.masked_fill(~valid_frames(lengths, x.shape[1]), torch.inf)
    # The `kept` smallest scores of each row, in the order of time; the rest becomes padding.
    rank = scores.argsort(1).argsort(1)
    late = (rank >= kept[:, None]).long()
    order = late.argsort(dim=1, stable=True)[:, : int(kept.max())]
    chosen = x.gather(1, order[:, :, None].expand(-1, -1, x.shape[2]))
    return zero_padding(chosen, kept), kept


def _perturbation(
    model: TrainingModel,
    batch: FeatureBatch,
    labels: Int[Tensor, "B"],
    epoch: int,
    context: TrainingContext,
) -> Float[Tensor, "B T D"]:
    """Return the perturbation that the attack finds against the current model, detached."""
    plan = context.adversarial
    assert plan is not None
    classifier = model.classifier.eval()
    victim = WrappedVictim(classifier, context.store.class_names, classifier.mean, classifier.scale)
    seeds = utterance_seeds(batch.ids, context.seed, "adversarial", epoch)
    result = plan.attack(victim, batch, labels, plan.budget, seeds=seeds)
    classifier.train()
    return (result.x_adv - batch.x).detach()


def _validation_score(model: TrainingModel, context: TrainingContext) -> tuple[float, float]:
    """Return the validation UAR and the negative loss, which breaks ties between equal UARs."""
    ids = context.fold.validation
    logits = predict_logits(model, context.store, ids)
    labels = context.store.labels(ids)
    confusion = confusion_matrix(labels.numpy(), logits.argmax(1).numpy(), logits.shape[1])
    return uar(confusion), -float(context.criterion(logits, labels))


def _batches(
    lengths: Mapping[str, int], size: int, rng: torch.Generator
) -> Iterator[Sequence[str]]:
    """Yield shuffled batches of utterances of similar length, which need little padding."""
    names = list(lengths)
    shuffled = [names[i] for i in torch.randperm(len(names), generator=rng).tolist()]
    batches = []
    pool = size * 8
    for start in range(0, len(shuffled), pool):
        part = sorted(shuffled[start : start + pool], key=lambda name: lengths[name])
        batches += [part[i : i + size] for i in range(0, len(part), size)]
    for index in torch.randperm(len(batches), generator=rng).tolist():
        yield batches[index]


def _decayed(module: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    matrices = [p for p in module.parameters() if p.ndim > 1]
    others = [p for p in module.parameters() if p.ndim <= 1]
    return [
        {"params": matrices, "weight_decay": weight_decay},
        {"params": others, "weight_decay": 0.0},
    ]


def _warmup_cosine(step: int, steps: int, warmup: float) -> float:
    warm = max(1, round(warmup * steps))
    if step < warm:
        return (step + 1) / warm
    return 0.5 * (1 + math.cos(math.pi * min(1.0, (step - warm) / max(1, steps - warm))))
