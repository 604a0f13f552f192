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
from sigma_ser.core.features import FeatureBatch
from sigma_ser.core.seeds import utterance_seeds
from sigma_ser.corpora.folds import Fold
from sigma_ser.encoders.store import FeatureStore
from sigma_ser.execution.memory import Slack
from sigma_ser.statistics.classification import confusion_matrix, uar

from .evaluation import predict_logits
from .layers import LayerSum
from .settings import AdversarialTraining, TrainingSettings
from .victim import Standardised, WrappedVictim, usable_scale


class Pupil(nn.Module):
    """A head while it learns: standardised, and behind a learned sum of layers where there are any.

    `surface(x)` is what the finished victim will be given, `judge` the victim on it.
    """

    def __init__(self, judge: Standardised, layers: LayerSum | None) -> None:
        super().__init__()
        self.judge = judge
        self.layers = layers

    def settle(self) -> None:
        """Let mean and scale follow the weights of the layers; needed after every step."""
        if self.layers is not None:
            mean, deviation = self.layers.moments()
            self.judge.mean, self.judge.scale = mean, usable_scale(deviation)

    def surface(self, x: Float[Tensor, "B T F"]) -> Float[Tensor, "B T D"]:
        """The features themselves, or the sum of their layers."""
        if self.layers is None:
            return x
        summed: Tensor = self.layers(x)
        return summed

    def forward(self, x: Float[Tensor, "B T F"], lengths: Int[Tensor, "B"]) -> Float[Tensor, "B C"]:
        """Logits of stored features."""
        logits: Tensor = self.judge(self.surface(x), lengths)
        return logits


@dataclass(frozen=True)
class Lesson:
    """What the training loop needs to know besides the pupil."""

    store: FeatureStore
    fold: Fold
    targets: Mapping[str, int]
    criterion: nn.CrossEntropyLoss
    settings: TrainingSettings
    adversarial: AdversarialTraining | None
    seed: int
    rng: torch.Generator


def fit(pupil: Pupil, lesson: Lesson, progress: Callable[[int, int], None] | None) -> int:
    """Train; the pupil ends with the weights of its best validation epoch, in eval mode.

    A fold without a validation part is trained for all epochs, and the last weights are kept.

    Returns:
        How many epochs were run.

    Raises:
        VictimError: if the loss is not finite.
    """
    settings, store, fold = lesson.settings, lesson.store, lesson.fold
    lengths = dict(zip(fold.train, store.lengths(fold.train).tolist(), strict=True))
    steps = settings.epochs * math.ceil(len(lengths) / settings.batch_size)
    optimizer = torch.optim.AdamW(_decayed(pupil, settings.weight_decay), lr=settings.learning_rate)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: _warmup_cosine(step, steps, settings.warmup)
    )
    slack = Slack()
    best, best_state, waited = (-math.inf, -math.inf), copy.deepcopy(pupil.state_dict()), 0
    for epoch in range(settings.epochs):
        pupil.train()
        for ids in _batches(lengths, settings.batch_size, lesson.rng):
            loss = _loss(pupil, ids, epoch, lesson)
            if not bool(torch.isfinite(loss)):
                raise VictimError(
                    f"the loss became {loss.item()} in epoch {epoch + 1}; "
                    "lower learning_rate, or check the features for extreme values"
                )
            optimizer.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            nn.utils.clip_grad_norm_(pupil.parameters(), settings.clip)
            optimizer.step()
            schedule.step()
            pupil.settle()
            slack.give_back()
        pupil.eval()
        if progress is not None:
            progress(epoch + 1, settings.epochs)
        if not fold.validation:
            continue
        score = _validation_score(pupil, lesson)
        # A better loss at the same UAR is kept, but is no reason to go on.
        waited = 0 if score[0] > best[0] else waited + 1
        if score > best:
            best, best_state = score, copy.deepcopy(pupil.state_dict())
        if waited >= settings.patience:
            break
    if fold.validation:
        pupil.load_state_dict(best_state)
    pupil.eval()
    return epoch + 1


def _loss(pupil: Pupil, ids: Sequence[str], epoch: int, lesson: Lesson) -> Tensor:
    batch = lesson.store.batch(ids)
    x, lengths = pupil.surface(batch.x), batch.lengths
    labels = torch.tensor([lesson.targets[name] for name in ids])
    plan = lesson.adversarial
    if plan is None:
        return _clean_loss(pupil.judge, x, lengths, labels, lesson)
    delta = _perturbation(pupil, FeatureBatch(x.detach(), lengths, ids), labels, epoch, lesson)
    loss: Tensor = plan.share * lesson.criterion(pupil.judge(x + delta, lengths), labels)
    if plan.share < 1:
        loss = loss + (1 - plan.share) * _clean_loss(pupil.judge, x, lengths, labels, lesson)
    return loss


def _clean_loss(
    judge: Standardised,
    x: Float[Tensor, "B T D"],
    lengths: Int[Tensor, "B"],
    labels: Int[Tensor, "B"],
    lesson: Lesson,
) -> Tensor:
    settings, criterion, rng = lesson.settings, lesson.criterion, lesson.rng
    if settings.noise:
        x = x + settings.noise * judge.scale * torch.randn(x.shape, generator=rng)
    if not settings.mixup:
        loss: Tensor = criterion(judge(x, lengths), labels)
        return loss
    # Utterances differ in length, so features are mixed over the shorter of each pair.
    share = float(torch.distributions.Beta(settings.mixup, settings.mixup).sample())
    partner = torch.randperm(len(x), generator=rng)
    logits = judge(share * x + (1 - share) * x[partner], torch.minimum(lengths, lengths[partner]))
    mixed: Tensor = share * criterion(logits, labels) + (1 - share) * criterion(
        logits, labels[partner]
    )
    return mixed


def _perturbation(
    pupil: Pupil, batch: FeatureBatch, labels: Int[Tensor, "B"], epoch: int, lesson: Lesson
) -> Float[Tensor, "B T D"]:
    """What the attack adds to a batch, against the pupil as it is now."""
    plan = lesson.adversarial
    assert plan is not None
    judge = pupil.judge.eval()
    victim = WrappedVictim(judge, lesson.store.class_names, judge.mean, judge.scale)
    seeds = utterance_seeds(batch.ids, lesson.seed, "adversarial", epoch)
    result = plan.attack(victim, batch, labels, plan.budget, seeds=seeds)
    judge.train()
    return (result.x_adv - batch.x).detach()


def _validation_score(pupil: Pupil, lesson: Lesson) -> tuple[float, float]:
    """Validation UAR, and minus the loss, which decides between equal UARs."""
    ids = lesson.fold.validation
    logits = predict_logits(pupil, lesson.store, ids)
    labels = lesson.store.labels(ids)
    confusion = confusion_matrix(labels.numpy(), logits.argmax(1).numpy(), logits.shape[1])
    return uar(confusion), -float(lesson.criterion(logits, labels))


def _batches(
    lengths: Mapping[str, int], size: int, rng: torch.Generator
) -> Iterator[Sequence[str]]:
    """Shuffled batches of utterances of like length, so that little is padded."""
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
