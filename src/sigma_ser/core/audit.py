"""The one audit that every perturbation passes, whoever made it."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from .budget import Budget
from .errors import AuditError, ShapeError
from .features import FeatureBatch

# delta is recovered as x_adv - x, so it carries the rounding of that sum: one unit in the last
# place of x for each of the two float32 operations.
_ROUNDING_UNITS = 2.0


def audit(
    batch: FeatureBatch,
    x_adv: Float[Tensor, "B T D"],
    budget: Budget,
    scale: Float[Tensor, "D"],
    mask: Bool[Tensor, "B T D"] | None = None,
) -> None:
    """Check a perturbation against its budget: mask, padding, `k`, `epsilon`, finite.

    Args:
        batch: the clean features.
        x_adv: the features after the attack, same shape.
        budget: what was allowed.
        scale: `(D,)` standard deviation of the channels, the unit of `epsilon`.
        mask: the elements that were allowed to change; `None` allows all valid ones.

    Raises:
        AuditError: names the first utterance that breaks the budget, and how.
        ShapeError: if the shapes differ.
    """
    if x_adv.shape != batch.x.shape:
        raise ShapeError(
            f"the attack returned {tuple(x_adv.shape)} for features {tuple(batch.x.shape)}"
        )
    delta = x_adv - batch.x
    valid = batch.valid[:, :, None]
    changed = delta != 0
    channels = batch.x.shape[2]
    bound = budget.bound(scale)
    rounding = torch.finfo(torch.float32).eps * torch.maximum(x_adv.abs(), batch.x.abs())
    faults = {
        "is not finite": ~torch.isfinite(x_adv.masked_fill(~valid, 0.0)).flatten(1).all(1),
        "changes padding": (changed & ~valid).flatten(1).any(1),
        f"changes more than epsilon={_shown(budget.epsilon)} allows": (
            delta.abs() > bound * (1 + 1e-6) + _ROUNDING_UNITS * rounding
        )
        .logical_and(valid)
        .flatten(1)
        .any(1),
        f"changes more than its budget of {budget.granularity}s": (
            budget.touched(changed & valid, batch.lengths) > budget.units(batch.lengths, channels)
        ),
    }
    if mask is not None:
        faults["changes elements outside its mask"] = (changed & ~mask).flatten(1).any(1)
    for fault, rows in faults.items():
        if bool(rows.any()):
            first = int(rows.nonzero()[0])
            raise AuditError(
                f"the perturbation of utterance {batch.ids[first]!r} {fault} "
                f"({int(rows.sum())} of {len(batch)} utterances in the batch); "
                "this is a fault of the attack, please report it"
            )


def _shown(epsilon: float | Tensor) -> str:
    return f"{epsilon:g}" if isinstance(epsilon, int | float) else "(per channel)"
