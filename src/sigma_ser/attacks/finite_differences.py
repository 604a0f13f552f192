"""Finite differences of a margin beside its gradient: does the margin change as it predicts?"""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from sigma_ser.core.features import FeatureBatch

_EPS = torch.finfo(torch.float32).eps
# Elements moved, one-sided changes of the margin relative to the largest logit, largest move in
# units of scale, smallest change that float32 resolves, and by which factor a difference may
# deviate from the gradient.
_MOVED = 16
_CHANGES = (2.0**-17, 2.0**-15, 2.0**-11)
_LARGEST_MOVE = 0.05
_RESOLVED = 32 * _EPS
_DEVIATION = 4.0


def contradicted(
    margin: Callable[[Tensor], Tensor],
    gradient: Float[Tensor, "R T D"],
    batch: FeatureBatch,
    scale: Float[Tensor, "D"],
    largest: Float[Tensor, "R"],
) -> float | None:
    """Share of utterances whose central differences contradict the gradient, of those tested.

    The elements of largest gain move by several amounts that change the margin well above the
    resolution of float32. The difference must be the predicted one within a factor of four at one
    of the amounts, and must not vanish at any: quantised features cross several steps in a large
    move, which looks like a slope, and none in a small one.

    Args:
        margin: from features `(R, T, D)` to `(R,)`.
        gradient: of the margin at the features of the batch.
        batch: the features, zero on padding.
        scale: deviation of each channel.
        largest: largest absolute logit of each utterance.

    Returns:
        A share in [0, 1]; `None` if float32 resolves no difference.
    """
    gain = (gradient.abs() * scale).flatten(1)
    moved = min(_MOVED, int(batch.lengths.min()) * batch.x.shape[2])
    top = gain.topk(moved, dim=1)
    direction = torch.zeros_like(gain).scatter(1, top.indices, 1.0).view_as(gradient)
    direction = direction * torch.sign(gradient) * scale
    tested = torch.zeros_like(largest, dtype=torch.bool)
    agreed, vanished = tested.clone(), tested.clone()
    for change in _CHANGES:
        amount = change * largest / top.values.sum(1).clamp(min=1e-30)
        step = amount.clamp(max=_LARGEST_MOVE)[:, None, None] * direction
        ahead, behind = batch.x + step, batch.x - step
        with torch.no_grad():
            found = margin(ahead).double() - margin(behind).double()
        # The move that float32 made of the step.
        move = ahead.double() - behind.double()
        predicted = (gradient.double() * move).flatten(1).sum(1)
        resolved = predicted > _RESOLVED * largest
        ratio = found / predicted.clamp(min=1e-300)
        tested |= resolved
        agreed |= resolved & (ratio > 1 / _DEVIATION) & (ratio < _DEVIATION)
        vanished |= resolved & (found.abs() <= _EPS * largest)
    if not bool(tested.any()):
        return None
    return float((tested & (vanished | ~agreed)).sum() / tested.sum())
