"""sigma-zero: gradient descent on a smooth L0 norm with an adaptive threshold."""

from __future__ import annotations

import dataclasses
import math

import torch

from sigma_ser.core.registry import register

from .base import check_positive
from .losses import cw_hinge
from .minimum_norm import MinimumNormAttack, SmallestSet
from .projections import linf_normalised


@register("attack", "sigma-zero")
@dataclasses.dataclass(frozen=True, kw_only=True, repr=False)
class SigmaZero(MinimumNormAttack):
    """sigma-zero (Cina, Villani, Pintor, Schonherr, Biggio & Pelillo 2025, algorithm 1).

    Minimises `max(-margin, 0) + mean(u^2 / (u^2 + sigma))` with Adam on the Linf-normalised
    gradient. Elements smaller than `tau` are set to zero; `tau` increases while the perturbation
    succeeds and decreases while it does not. `u` is the perturbation in units of `2 epsilon`, the
    range of an element, as the paper's is in units of the range of a pixel. This differs from the
    authors' code, which assigns `tau` to a copy and so keeps it constant: the paper is followed.

    Args:
        steps: number of gradient steps, at least 1.
        step_size: first step, above 0; a cosine schedule reduces it to a tenth.
        sigma: smoothness of the L0 norm, above 0.
        threshold: initial `tau`, above 0.
        threshold_step: change of `tau` per step, as a multiple of the step size, above 0.
    """

    steps: int = 100
    step_size: float = 1.0
    sigma: float = 1e-3
    threshold: float = 0.3
    threshold_step: float = 0.01

    def __post_init__(self) -> None:
        super().__post_init__()
        check_positive(self, "steps", "step_size", "sigma", "threshold", "threshold_step")

    def shrink(self, active: SmallestSet) -> None:
        u, mean, square = active.zeros(), active.zeros(), active.zeros()
        tau = torch.full_like(active.best_margin, self.threshold)
        for step in range(self.steps):
            size = self.step_size * (0.1 + 0.45 * (1 + math.cos(math.pi * step / self.steps)))
            gradient, u, mean, square, tau = active.gradient(
                2 * active.bound * u if step else None, cw_hinge, u, mean, square, tau
            )
            span = 2 * active.bound
            elements = active.allowed.sum((1, 2))[:, None, None]
            l0 = 2 * u * self.sigma / (u.square() + self.sigma).square() / elements
            descent = linf_normalised(l0 - gradient * span)
            mean = 0.9 * mean + 0.1 * descent
            square = 0.999 * square + 0.001 * descent.square()
            corrected = square / (1 - 0.999 ** (step + 1))
            u = u - size * mean / (1 - 0.9 ** (step + 1)) / (corrected.sqrt() + 1e-8)
            u = active.clip(u * span) / span.clamp(min=1e-30)
            move = self.threshold_step * size
            tau = torch.where(active.fooling, tau + move, tau - move).clamp(0.0, 1.0)
            u = u.masked_fill(u.abs() < tau[:, None, None], 0.0)
        active.observe(2 * active.bound * u)
