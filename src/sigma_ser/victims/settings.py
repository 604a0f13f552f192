"""Settings of training: every setting with its range, and adversarial training."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sigma_ser.core.budget import Budget
from sigma_ser.core.contracts import Attack
from sigma_ser.core.errors import VictimError
from sigma_ser.core.settings import check_settings


@dataclass(frozen=True, kw_only=True)
class TrainingSettings:
    """Settings of the training of a head.

    Args:
        epochs: maximum number of passes over the training part, at least 1.
        batch_size: number of utterances in a step, at least 1.
        learning_rate: peak of the schedule (linear warm-up, then cosine decay to 0), above 0.
        warmup: share of the steps with linear warm-up, in [0, 1).
        weight_decay: weight decay of AdamW (Loshchilov & Hutter 2019) on matrices, at least 0.
        label_smoothing: share of the target that is spread over all classes (Szegedy et al. 2016),
            in [0, 1).
        class_weights: weight classes by their inverse frequency.
        noise: standard deviation of Gaussian noise on standardised features, at least 0.
        mixup: parameter alpha of mixup (Zhang et al. 2018) of the features of two utterances, at
            least 0; 0 disables it.
        frame_dropout: share of the frames of each utterance that a step leaves out, in [0, 1); the
            others keep their order. It prepares a head for the certificate `frame-ablation`.
        clip: maximum norm of the gradient, above 0.
        patience: number of epochs without a better validation UAR after which training stops, at
            least 1.

    Raises:
        VictimError: if a value is out of its range.
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
    frame_dropout: float = 0.0
    clip: float = 1.0
    patience: int = 10

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size", "patience"):
            if getattr(self, name) < 1:
                raise VictimError(f"{name} must be at least 1, got {getattr(self, name)}")
        for name in ("learning_rate", "clip"):
            if not getattr(self, name) > 0:
                raise VictimError(f"{name} must be above 0, got {getattr(self, name)}")
        for name in ("weight_decay", "noise", "mixup"):
            if not 0 <= getattr(self, name) < math.inf:
                raise VictimError(f"{name} must be at least 0, got {getattr(self, name)}")
        for name in ("warmup", "label_smoothing", "frame_dropout"):
            if not 0 <= getattr(self, name) < 1:
                raise VictimError(f"{name} must lie in [0, 1), got {getattr(self, name)}")

    @classmethod
    def of(cls, given: Mapping[str, Any]) -> TrainingSettings:
        """Create settings from a mapping of names to values.

        Raises:
            VictimError: if a setting is unknown or has the wrong type.
        """
        check_settings("training", cls, given, VictimError)
        return cls(**given)


@dataclass(frozen=True, kw_only=True)
class AdversarialTraining:
    """Adversarial training: train on attacked and on clean features.

    The loss of a step is `(1 - share) * clean + share * attacked`, where each utterance is
    attacked on the current model without dropout (Madry et al. 2018, eq. 2.1; the mixture of
    Goodfellow et al. 2015, section 6). With an attack that stops at the first success it is the
    friendly adversarial training of Zhang et al. 2020.

    Args:
        attack: any attack, such as `ss.make_attack("dual-averaging", steps=5)`.
        budget: budget of the attack.
        share: weight of the attacked features in the loss, in (0, 1].

    Raises:
        VictimError: if `share` is out of its range.
    """

    attack: Attack
    budget: Budget
    share: float = 0.5

    def __post_init__(self) -> None:
        if not 0 < self.share <= 1:
            raise VictimError(f"share must lie in (0, 1], got {self.share}")

    def described(self) -> dict[str, Any]:
        """Return the settings as plain data for the card of a victim."""
        epsilon = self.budget.epsilon
        return {
            "attack": repr(self.attack),
            "sparsity": self.budget.sparsity,
            "count": self.budget.count,
            "epsilon": epsilon if isinstance(epsilon, int | float) else epsilon.tolist(),
            "granularity": self.budget.granularity,
            "share": self.share,
        }
