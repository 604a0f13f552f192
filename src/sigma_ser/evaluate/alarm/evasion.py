"""An attack that knows the alarm: it fools the victim and keeps the score of the alarm low."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

from jaxtyping import Float
from torch import Tensor

from sigma_ser.attacks.active_set import ActiveSet
from sigma_ser.attacks.base import SparseAttack
from sigma_ser.attacks.losses import cw_hinge
from sigma_ser.attacks.projections import l2_normalised
from sigma_ser.attacks.saliency_maps import (
    DifferentiableMap,
    SmoothReLU,
    check_saliency,
    saliency_map,
    twice_differentiable,
)
from sigma_ser.core.errors import AttackError

from .detector import Alarm


@dataclasses.dataclass(frozen=True, kw_only=True, repr=False)
class AlarmEvasion(SparseAttack):
    """Maximise `min(margin, 0) - weight * score`, with the score of an alarm (this project).

    The score is differentiated through the saliency map of the predicted class; where the victim
    has ReLU, through a copy with softplus (as `sigma-mu`). The result is the successful
    perturbation with the smallest score on the victim itself. Support and signs follow dual
    averaging on normalised gradients. An alarm is assessed under this attack, because attacks that
    do not know a detector say little about it (Carlini & Wagner 2017, "Adversarial examples are not
    easily detected").

    Args:
        alarm: the alarm to evade.
        saliency: the map of the alarm, or the differentiable map that is closest to it.
        weight: of the score in log-odds, at least 0.
        steps: number of gradient steps, at least 1.
        path: number of points on the path of `integrated-gradients`, at least 1.
        beta: sharpness of the softplus, above 0.
    """

    alarm: Alarm
    saliency: DifferentiableMap = "input-x-gradient"
    weight: float = 1.0
    steps: int = 40
    path: int = 8
    beta: float = 10.0

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, least in (("steps", 1), ("path", 1), ("weight", 0.0)):
            if getattr(self, name) < least:
                raise AttackError(f"{name} must be at least {least}, got {getattr(self, name)}")
        if not self.beta > 0:
            raise AttackError(f"beta must be above 0, got {self.beta}")
        check_saliency(self, self.saliency)

    def search(self, active: ActiveSet) -> None:
        with twice_differentiable():
            objective = self._objective(active, SmoothReLU(self.beta))
            total, delta = active.zeros(), None
            for step in range(self.steps):
                gradient, total = active.ascent(delta, objective, total)
                total.add_(l2_normalised(gradient), alpha=step + 1)
                delta = active.corner(total)
            active.ascent(delta, objective)

    def _objective(
        self, active: ActiveSet, smooth: SmoothReLU
    ) -> Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]:
        def objective(x: Tensor, logits: Tensor) -> tuple[Tensor, Tensor]:
            score = self._score(active, x, logits)
            merit = -score.detach()
            value = cw_hinge(active.normalised(logits), active.labels, active.target)
            if self.weight > 0:
                active.meter.spend(1)
                with smooth:
                    soft = active.victim(x, active.lengths, active.owner)
                    if smooth.used:
                        score = self._score(active, x, soft)
                value = value - self.weight * score
            return value, merit

        return objective

    def _score(
        self, active: ActiveSet, x: Float[Tensor, "A T D"], logits: Float[Tensor, "A C"]
    ) -> Float[Tensor, "A"]:
        classes = logits.detach().argmax(1)
        found = saliency_map(active, x, logits, self.saliency, self.path, classes=classes)
        return self.alarm.of_map(found, active.lengths, logits)
