"""Victims of unknown structure that behave like affine ones wherever they are tested."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from sigma_ser.attacks.inputs import autograd_usable
from sigma_ser.core.budget import Budget
from sigma_ser.core.contracts import Victim
from sigma_ser.core.errors import GradientError
from sigma_ser.core.features import FeatureBatch
from sigma_ser.core.passes import input_gradient
from sigma_ser.core.registry import register
from sigma_ser.core.topk import topk_support

from .affine import lower_bounds
from .allowed import Allowed, allowed_changes, checked_task
from .certificate import Certificate
from .rounding import corner_points

# Largest deviation from the affine prediction, as a share of the range of the logits.
_TOLERANCE = 1e-4
# Tested moves in units of the allowed change, besides its corners.
_MOVES = (0.1, 1.0, 10.0)
_FACTOR = 4.0


@register("certificate", "affine-tested")
@dataclasses.dataclass(frozen=True, kw_only=True)
class AffineTested:
    """The bound of an affine victim, for victims that only look affine. It is not proven.

    The gradient of every logit at the clean utterance predicts the logits at random points, at
    random corners and at the worst corner for each class. Where one prediction fails, the margin is
    `-inf`. A victim can pass these tests and not be affine elsewhere.
    """

    name: ClassVar[str] = "affine-tested"
    proven: ClassVar[bool] = False
    smoothed: ClassVar[bool] = False

    def suits(self, victim: Victim) -> bool:
        """Any victim can be tested."""
        return True

    def __call__(
        self,
        victim: Victim,
        batch: FeatureBatch,
        labels: Int[Tensor, "B"],
        budget: Budget,
        *,
        mask: Bool[Tensor, "B T D"] | None = None,
    ) -> Certificate:
        """Certify a batch; each utterance is tested by itself."""
        labels, _ = checked_task(victim, batch, labels, mask)
        margins = torch.full((len(batch),), -torch.inf, dtype=torch.float64)
        allowances = torch.zeros_like(margins)
        for row, allowed in enumerate(allowed_changes(victim, batch, labels, budget, mask)):
            found = _tested(victim, allowed, batch.device)
            if found is None:
                # A victim that is not affine for one utterance is none.
                return Certificate(torch.full_like(margins, -torch.inf), "none", False, allowances)
            margins[row], allowances[row] = found
        return Certificate(margins, self.name, self.proven, allowances)


def _tested(victim: Victim, allowed: Allowed, device: torch.device) -> tuple[float, float] | None:
    """Margin and allowance of one utterance; `None` if a prediction fails."""
    jacobian = _jacobian(victim, allowed.x.float().to(device))
    if jacobian is None:
        return None
    clean, slopes = jacobian
    bounds = lower_bounds(clean, slopes, allowed)
    points = _test_points(allowed, slopes)
    frames = torch.full((len(points),), points.shape[1], device=device)
    with torch.no_grad():
        found = victim(points.to(device), frames).double().cpu()
    expected = clean + torch.einsum("ntd,ctd->nc", points.double() - allowed.x, slopes)
    error = float((found - expected).abs().max())
    extent = float(expected.max() - expected.min())
    if not error <= _TOLERANCE * extent:
        return None
    allowance = 2 * _FACTOR * error
    return float(bounds.min()) - allowance, allowance


def _jacobian(victim: Victim, x: Float[Tensor, "T D"]) -> tuple[Tensor, Tensor] | None:
    """Logits `(C,)` and their gradients `(C, T, D)` in float64; `None` without gradients."""
    frames = torch.tensor([len(x)], device=x.device)
    with autograd_usable(), torch.enable_grad():
        copies = x[None].clone().requires_grad_()
        logits = victim(copies, frames)[0]
        slopes = []
        try:
            for index in range(len(logits)):
                again = victim(copies, frames)[0, index]
                slopes.append(input_gradient(again, copies)[0])
        except GradientError:
            return None
    return logits.detach().double().cpu(), torch.stack(slopes).double().cpu()


def _test_points(allowed: Allowed, slopes: Float[Tensor, "C T D"]) -> Float[Tensor, "N T D"]:
    rng = torch.Generator().manual_seed(1)
    spread = allowed.radius.max()
    random = [
        allowed.x + move * spread * torch.randn(allowed.x.shape, generator=rng).double()
        for move in _MOVES
    ]
    directions = slopes - slopes[allowed.label]
    gains = directions.abs() * allowed.radius
    budget = allowed.budget
    lengths = torch.full((len(gains),), gains.shape[1])
    units = torch.full_like(lengths, allowed.units)
    chosen = topk_support(budget.unit_scores(gains, lengths), units)
    support = budget.expand(chosen, lengths, gains.shape)
    worst = allowed.x + torch.sign(directions) * allowed.radius * support
    return torch.cat([corner_points(allowed), torch.stack(random).float(), worst.float()])
