"""sigma-lambda: fool the victim and keep its explanation, in one objective."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator
from typing import Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from sigma_ser.core.errors import AttackError
from sigma_ser.core.registry import register

from .active_set import ActiveSet, Objective
from .base import SparseAttack, check_positive
from .losses import cw_hinge
from .projections import l2_normalised

DifferentiableMap = Literal["gradient", "input-x-gradient", "integrated-gradients"]


@register("attack", "sigma-lambda")
@dataclasses.dataclass(frozen=True, kw_only=True, repr=False)
class SigmaLambda(SparseAttack):
    """Maximise `min(margin, 0) - weight * (1 - cos(|A(x_adv)|, |A(x)|))`.

    `A` is the map of the true class; it is differentiated once more for the gradient of the
    cosine. Corners are chosen by dual averaging on normalised gradients. Of all that fool, the one
    that keeps the explanation best is the result, after it has been shrunk towards the clean
    input as far as it still fools. `weight=0` is the plain attack: it stops at the first success.

    Args:
        weight: lambda, what a lost explanation costs against one unit of margin.
        steps: gradients of the objective.
        saliency: the map that is kept. `gradient` alone has no second derivative on victims that
            are piecewise linear (ReLU), so that nothing pulls it back there.
        path: points on the path of `integrated-gradients`.
        halvings: evaluations spent on shrinking.
    """

    weight: float = 1.0
    steps: int = 40
    saliency: DifferentiableMap = "input-x-gradient"
    path: int = 8
    halvings: int = 5

    def __post_init__(self) -> None:
        super().__post_init__()
        check_positive(self, "steps", "path")
        if self.weight < 0:
            raise AttackError(f"weight must be at least 0, got {self.weight}")
        if self.saliency not in get_args(DifferentiableMap):
            raise AttackError(
                f"saliency must be one of {', '.join(get_args(DifferentiableMap))}, "
                f"got {self.saliency!r}"
            )

    def search(self, active: ActiveSet) -> None:
        with twice_differentiable():
            kept = self._clean_map(active)
            total, delta = active.zeros(), active.zeros()
            for step in range(self.steps):
                objective = self._objective(active, kept)
                gradient, total, kept = active.ascent(
                    delta if step else None, objective, total, kept
                )
                total.add_(l2_normalised(gradient), alpha=step + 1)
                delta = active.corner(total)
            self._look(active, delta, kept)
            if self.weight > 0:
                self._shrink(active, kept)

    def _clean_map(self, active: ActiveSet) -> Float[Tensor, "A T D"]:
        maps = []

        def note(x: Tensor, logits: Tensor) -> tuple[Tensor, None]:
            maps.append(self._map(active, x, logits).detach())
            return logits.sum(1), None

        active.ascent(None, note)
        return maps[0]

    def _objective(self, active: ActiveSet, kept: Float[Tensor, "A T D"]) -> Objective:
        def objective(x: Tensor, logits: Tensor) -> tuple[Tensor, Tensor | None]:
            value = cw_hinge(logits, active.labels, active.target)
            if self.weight == 0:
                return value, None
            cosine = torch.cosine_similarity(
                self._map(active, x, logits).flatten(1), kept.flatten(1)
            )
            return value + self.weight * (cosine - 1), cosine.detach()

        return objective

    def _map(
        self, active: ActiveSet, x: Float[Tensor, "A T D"], logits: Float[Tensor, "A C"]
    ) -> Float[Tensor, "A T D"]:
        """`|A(x)|` for the true class, still differentiable."""
        active.meter.spend(2 * self.path if self.saliency == "integrated-gradients" else 1)
        mean = active.victim.mean
        if self.saliency == "integrated-gradients":
            shares = (torch.arange(self.path, device=x.device) + 0.5) / self.path
            points = mean + shares[:, None, None, None] * (x - mean)
            logits = active.victim(
                points.flatten(0, 1),
                active.lengths.repeat(self.path),
                active.owner.repeat(self.path),
            )
            score = logits.gather(1, active.labels.repeat(self.path)[:, None]).sum()
            (slope,) = torch.autograd.grad(score / self.path, points, create_graph=True)
            slope = slope.sum(0)
        else:
            score = logits.gather(1, active.labels[:, None]).sum()
            (slope,) = torch.autograd.grad(score, x, create_graph=True)
        attribution = slope if self.saliency == "gradient" else slope * (x - mean)
        valid = torch.arange(x.shape[1], device=x.device)[None, :] < active.lengths[:, None]
        return attribution.abs() * valid[:, :, None]

    def _look(
        self, active: ActiveSet, delta: Float[Tensor, "A T D"], kept: Float[Tensor, "A T D"]
    ) -> None:
        """Weigh a perturbation, margin and map, without a step from it."""
        active.ascent(delta, self._objective(active, kept))

    def _shrink(self, active: ActiveSet, kept: Float[Tensor, "A T D"]) -> None:
        """Bisect how far along its way the best perturbation must go to fool."""
        whole = active.best.clone()
        low, high = torch.zeros_like(active.best_margin), torch.ones_like(active.best_margin)
        for _ in range(self.halvings):
            middle = 0.5 * (low + high)
            self._look(active, middle[:, None, None] * whole, kept)
            low = torch.where(active.fooling, low, middle)
            high = torch.where(active.fooling, middle, high)


@contextlib.contextmanager
def twice_differentiable() -> Iterator[None]:
    """Only kernels that have a second derivative: no fused attention, no cuDNN recurrent layers."""
    with (
        sdpa_kernel(SDPBackend.MATH),
        torch.backends.cudnn.flags(enabled=False),
    ):
        yield
