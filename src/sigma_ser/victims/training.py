"""Training a head on one fold: AdamW, warm-up and cosine, early stopping on validation UAR."""

from __future__ import annotations

import copy
import dataclasses
import math
import platform
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from sigma_ser.core.errors import VictimError
from sigma_ser.core.seeds import derive_seed
from sigma_ser.corpora.folds import Fold
from sigma_ser.encoders.store import FeatureStore
from sigma_ser.statistics.classification import confusion_matrix, uar

from .checkpoint import TrainedVictim, VictimCard, make_head
from .evaluation import evaluate, predict_logits
from .victim import Standardised

# A channel that never moves in training would make every epsilon zero and divide by zero.
_SMALLEST_SCALE = 1e-6


@dataclass(frozen=True, kw_only=True)
class TrainingSettings:
    """How a head is trained.

    Args:
        epochs: passes over the training part, at the most.
        batch_size: utterances a step.
        learning_rate: peak of the schedule (linear warm-up, then cosine to 0).
        warmup: share of the steps that warm up.
        weight_decay: of AdamW (Loshchilov & Hutter 2019), on matrices only.
        label_smoothing: share of the target spread over all classes.
        class_weights: weigh classes by their inverse frequency.
        noise: standard deviation of Gaussian noise on standardised features.
        mixup: alpha of mixup (Zhang et al. 2018) between the pooled loss of two utterances; 0 off.
        clip: largest norm of a gradient.
        patience: epochs without a better validation UAR before it stops.
    """

    epochs: int = 40
    batch_size: int = 32
    learning_rate: float = 1e-3
    warmup: float = 0.1
    weight_decay: float = 1e-2
    label_smoothing: float = 0.1
    class_weights: bool = True
    noise: float = 0.0
    mixup: float = 0.0
    clip: float = 1.0
    patience: int = 10

    @classmethod
    def of(cls, given: Mapping[str, Any]) -> TrainingSettings:
        """Settings from a mapping.

        Raises:
            VictimError: names a setting that does not exist, and those that do.
        """
        known = {field.name for field in dataclasses.fields(cls)}
        unknown = sorted(set(given) - known)
        if unknown:
            raise VictimError(
                f"training has no setting {unknown[0]!r}; known: {', '.join(sorted(known))}"
            )
        return cls(**given)


def train(
    store: FeatureStore,
    fold: Fold,
    head: str = "mlp",
    seed: int = 0,
    *,
    head_settings: Mapping[str, Any] | None = None,
    progress: Callable[[int, int], None] | None = None,
    **training: Any,
) -> TrainedVictim:
    """Train a head on the training part of a fold.

    Args:
        store: features of the corpus.
        fold: which utterances train, validate and test.
        head: name of a registered head.
        seed: fixes initial weights, order and dropout.
        head_settings: keyword arguments of the head.
        progress: called with (epochs done, epochs at the most).
        **training: fields of `TrainingSettings`.

    Returns:
        The victim of the best validation epoch, with its test metrics in the card.

    Raises:
        VictimError: if a class has no training utterance, a setting is unknown, or the loss is
            not finite.
    """
    settings = TrainingSettings.of(training)
    classes = store.class_names
    targets = dict(zip(fold.train, store.labels(fold.train).tolist(), strict=True))
    counts = torch.bincount(torch.tensor(list(targets.values())), minlength=len(classes))
    missing = [name for name, count in zip(classes, counts.tolist(), strict=True) if not count]
    if missing:
        raise VictimError(
            f"fold {fold.name!r} has no training utterance of {', '.join(missing)}; "
            "choose another protocol, or a corpus with these classes left out"
        )
    statistics = store.statistics(fold.train)
    scale = statistics.std.clamp(min=_SMALLEST_SCALE)

    # Dropout and initialisation draw from the global generator: fork it, and leave no trace.
    with torch.random.fork_rng():
        torch.manual_seed(derive_seed(seed, "train", head, fold.name))
        module = Standardised(
            make_head(head, len(scale), len(classes), head_settings or {}), statistics.mean, scale
        )
        weights = counts.sum() / (len(classes) * counts) if settings.class_weights else None
        lesson = _Lesson(
            store=store,
            fold=fold,
            targets=targets,
            criterion=nn.CrossEntropyLoss(weights, label_smoothing=settings.label_smoothing),
            settings=settings,
            rng=torch.Generator().manual_seed(derive_seed(seed, "order", fold.name)),
        )
        _fit(module, lesson, progress)

    card = VictimCard(
        head=head,
        head_settings=dict(head_settings or {}),
        channels=len(scale),
        labels=tuple(classes),
        corpus=str(store.card["corpus"]["name"]),
        fold=fold.name,
        seed=seed,
        encoder=store.card["encoder"],
        training=dataclasses.asdict(settings),
        metrics={},
        versions={"torch": torch.__version__, "python": platform.python_version()},
    )
    victim = TrainedVictim(module, card)
    metrics = {
        part: evaluate(victim, store, ids)
        for part, ids in (("validation", fold.validation), ("test", fold.test))
        if ids
    }
    return TrainedVictim(module, dataclasses.replace(card, metrics=metrics))


@dataclass(frozen=True)
class _Lesson:
    """What the training loop needs to know besides the module."""

    store: FeatureStore
    fold: Fold
    targets: Mapping[str, int]
    criterion: nn.CrossEntropyLoss
    settings: TrainingSettings
    rng: torch.Generator


def _fit(
    module: Standardised, lesson: _Lesson, progress: Callable[[int, int], None] | None
) -> None:
    settings, store, fold = lesson.settings, lesson.store, lesson.fold
    lengths = dict(zip(fold.train, store.lengths(fold.train).tolist(), strict=True))
    steps = settings.epochs * math.ceil(len(lengths) / settings.batch_size)
    optimizer = torch.optim.AdamW(
        _decayed(module, settings.weight_decay), lr=settings.learning_rate
    )
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: _warmup_cosine(step, steps, settings.warmup)
    )
    best, best_state, waited = (-math.inf, -math.inf), copy.deepcopy(module.state_dict()), 0
    for epoch in range(settings.epochs):
        module.train()
        for ids in _batches(lengths, settings.batch_size, lesson.rng):
            loss = _loss(module, ids, lesson)
            if not bool(torch.isfinite(loss)):
                raise VictimError(
                    f"the loss became {loss.item()} in epoch {epoch + 1}; "
                    "lower learning_rate, or check the features for extreme values"
                )
            optimizer.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            nn.utils.clip_grad_norm_(module.parameters(), settings.clip)
            optimizer.step()
            schedule.step()
        module.eval()
        score = _validation_score(module, lesson)
        # A better loss at the same UAR is kept, but is no reason to go on.
        waited = 0 if score[0] > best[0] else waited + 1
        if score > best:
            best, best_state = score, copy.deepcopy(module.state_dict())
        if progress is not None:
            progress(epoch + 1, settings.epochs)
        if waited >= settings.patience:
            break
    module.load_state_dict(best_state)
    module.eval()


def _loss(module: Standardised, ids: Sequence[str], lesson: _Lesson) -> Tensor:
    settings, criterion, rng = lesson.settings, lesson.criterion, lesson.rng
    batch = lesson.store.batch(ids)
    x, lengths = batch.x, batch.lengths
    labels = torch.tensor([lesson.targets[name] for name in ids])
    if settings.noise:
        x = x + settings.noise * module.scale * torch.randn(x.shape, generator=rng)
    if not settings.mixup:
        loss: Tensor = criterion(module(x, lengths), labels)
        return loss
    # Utterances differ in length, so features are mixed over the shorter of each pair.
    share = float(torch.distributions.Beta(settings.mixup, settings.mixup).sample())
    partner = torch.randperm(len(ids), generator=rng)
    logits = module(share * x + (1 - share) * x[partner], torch.minimum(lengths, lengths[partner]))
    mixed: Tensor = share * criterion(logits, labels) + (1 - share) * criterion(
        logits, labels[partner]
    )
    return mixed


def _validation_score(module: Standardised, lesson: _Lesson) -> tuple[float, float]:
    """Validation UAR, and minus the loss, which decides between equal UARs."""
    ids = lesson.fold.validation
    if not ids:
        return 0.0, 0.0
    logits = predict_logits(module, lesson.store, ids)
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
