"""SAPF: a perturbation factorised into magnitudes and a binary selection."""

from __future__ import annotations

import dataclasses

import torch

from sigma_ser.core.registry import register

from .active_set import ActiveSet
from .base import SparseAttack, check_positive
from .losses import cw_hinge
from .projections import linf_normalised
from .saif import cut


@register("attack", "sapf")
@dataclasses.dataclass(frozen=True, kw_only=True, repr=False)
class SAPF(SparseAttack):
    """Sparse attack by perturbation factorisation (Fan, Wu, Li, Zhang, Li, Li & Yang 2020).

    `delta = p * s` with magnitudes `p` in the ball and a binary selection `s` with `sum(s) = k`
    (eq. 2, 3). The binary constraint is the intersection of the box [0, 1] with a sphere (lp-box
    ADMM, Wu & Ghanem 2018): `s` descends the augmented Lagrangian, `y1` and `y2` are its
    projections, `z1`, `z2`, `z3` the multipliers, and the penalty grows (section 3.3, algorithm
    1). `p` descends `weight |delta|_2^2 + max(-margin, 0)`. Finally `s` is rounded to its `k`
    largest elements and `p` is refined. This differs from the paper: gradients are divided by their
    largest element, both factors share one gradient instead of alternating inner loops, and the
    group term, which is specific to images, is omitted.

    Args:
        steps: gradient steps on both factors, at least 1.
        refinements: gradient steps with a fixed selection, at least 0.
        cut_every: steps between two evaluations of the rounded selection, at least 1.
        magnitude_step: step of `p` as a fraction of epsilon, above 0.
        selection_step: step of `s`, above 0.
        penalty: initial penalty of the constraints, above 0.
        penalty_growth: factor of the penalty per step, above 0; the penalty is at most 1.
        weight: weight of the squared norm.
    """

    steps: int = 80
    refinements: int = 20
    cut_every: int = 10
    magnitude_step: float = 0.2
    selection_step: float = 0.1
    penalty: float = 0.01
    penalty_growth: float = 1.05
    weight: float = 1e-3

    def __post_init__(self) -> None:
        super().__post_init__()
        check_positive(
            self, "steps", "cut_every", "magnitude_step", "selection_step", "penalty",
            "penalty_growth",
        )  # fmt: skip

    def search(self, active: ActiveSet) -> None:
        p = active.zeros()
        s = active.allowed.float()
        z1, z2, z3 = active.zeros(), active.zeros(), torch.zeros_like(active.best_margin)
        penalty = self.penalty
        every = active.problem.batch.lengths
        k = active.budget.elements(every, s.shape[2]).float()
        for step in range(self.steps):
            if step and step % self.cut_every == 0:
                p, s, z1, z2, z3 = active.observe(cut(active, p, s.clamp(min=0)), p, s, z1, z2, z3)
            (gradient,) = active.gradient(p * s, cw_hinge, counts=False)
            elements = active.allowed.sum((1, 2)).float()
            wanted = k[active.rows] / elements
            # Projections to the box and to the sphere, and the residual of the sum constraint.
            y1 = (s + z1 / penalty).clamp(0.0, 1.0)
            centred = (s + z2 / penalty - 0.5) * active.allowed
            radius = 0.5 * elements.sqrt() / centred.square().sum((1, 2)).sqrt().clamp(min=1e-30)
            y2 = 0.5 + radius[:, None, None] * centred
            excess = s.sum((1, 2)) / elements - wanted
            forces = (
                z1 + z2 + z3[:, None, None] + penalty * (2 * s - y1 - y2 + excess[:, None, None])
            )
            unit = active.bound.clamp(min=1e-30)
            p_step = linf_normalised(gradient * s * active.bound)
            s_step = linf_normalised(gradient * p)
            p = p + self.magnitude_step * active.bound * (p_step - self.weight * p * s * s / unit)
            s = (s + self.selection_step * (s_step - forces)) * active.allowed
            p = active.clip(p)
            z1 = z1 + penalty * (s - y1)
            z2 = z2 + penalty * (s - y2) * active.allowed
            z3 = z3 + penalty * (s.sum((1, 2)) / elements - wanted)
            penalty = min(penalty * self.penalty_growth, 1.0)
        self._refine(active, cut(active, p, s.clamp(min=0)))

    def _refine(self, active: ActiveSet, delta: torch.Tensor) -> None:
        """Sign steps with a fixed selection."""
        for _ in range(self.refinements):
            gradient, delta = active.gradient(delta, cw_hinge, delta)
            moved = delta + self.magnitude_step * active.bound * torch.sign(gradient)
            delta = active.clip(moved) * (delta != 0)
        active.observe(delta)
