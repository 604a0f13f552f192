"""The audit that every perturbation has to pass, whichever attack made it."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from .box import Box
from .budget import Budget
from .errors import AuditError, ShapeError
from .features import FeatureBatch, valid_frames

_ELEMENTS_AT_ONCE = 2**17


def audit(
    batch: FeatureBatch,
    x_adv: Float[Tensor, "B T D"],
    budget: Budget,
    scale: Float[Tensor, "D"],
    mask: Bool[Tensor, "B T D"] | None = None,
    *,
    box: Box | None = None,
) -> None:
    """Check a perturbation against its budget: mask, padding, `k`, `epsilon`, box, finite.

    The bound holds if `|x_adv - x| <= epsilon * scale` in float64, without a tolerance: an attack
    rounds its perturbed features towards the clean ones.

    Args:
        batch: the clean features.
        x_adv: the features after the attack, float32, same shape.
        budget: what was allowed.
        scale: `(D,)` standard deviation of the channels, the unit of `epsilon`.
        mask: bool `(B, T, D)`, the elements that were allowed to change; `None` allows all valid
            ones.
        box: the smallest and the largest value that the victim accepts. A clean value outside may
            stay, or move towards the box.

    Raises:
        AuditError: names the first utterance that breaks the budget, and how.
        ShapeError: if shapes or types do not fit.
    """
    _check_tensor("x_adv", x_adv, torch.float32, batch)
    if mask is not None:
        _check_tensor("mask", mask, torch.bool, batch)
    if not batch.x.numel():
        return
    units = budget.units(batch.lengths, batch.x.shape[2])
    bound = budget.bound(scale.double())
    # A few utterances at a time, so that intermediate results stay in the processor's cache.
    step = max(1, _ELEMENTS_AT_ONCE // batch.x[0].numel())
    parts = [
        _faults(
            batch.x[rows],
            x_adv[rows],
            batch.lengths[rows],
            budget=budget,
            units=units[rows],
            bound=bound if bound.ndim == 1 else bound[rows],
            mask=None if mask is None else mask[rows],
            box=box,
        )
        for rows in (slice(start, start + step) for start in range(0, len(batch), step))
    ]
    faults = {fault: torch.cat([part[fault] for part in parts]) for fault in parts[0]}
    for fault, rows in faults.items():
        if bool(rows.any()):
            first = int(rows.nonzero()[0])
            raise AuditError(
                f"the perturbation of utterance {batch.ids[first]!r} {fault} "
                f"({int(rows.sum())} of {len(batch)} utterances in the batch); "
                "this is a fault of the attack, please report it"
            )


def _check_tensor(name: str, value: object, dtype: torch.dtype, batch: FeatureBatch) -> None:
    shape = tuple(batch.x.shape)
    if not isinstance(value, Tensor):
        raise ShapeError(
            f"{name} must be a {dtype} tensor {shape} like the features, got {type(value).__name__}"
        )
    if value.dtype != dtype or value.shape != batch.x.shape:
        raise ShapeError(
            f"{name} must be {dtype} {shape} like the features, "
            f"got {value.dtype} {tuple(value.shape)}"
        )


def _faults(
    x: Float[Tensor, "R T D"],
    x_adv: Float[Tensor, "R T D"],
    lengths: Int[Tensor, "R"],
    *,
    budget: Budget,
    units: Int[Tensor, "R"],
    bound: Float[Tensor, "*R D"],
    mask: Bool[Tensor, "R T D"] | None,
    box: Box | None,
) -> dict[str, Bool[Tensor, "R"]]:
    """The possible violations of a budget, and the utterances that have each of them."""
    delta = x_adv.double() - x.double()
    valid = valid_frames(lengths, x.shape[1])[:, :, None]
    changed = delta != 0
    faults = {
        "is not finite": ~torch.isfinite(x_adv.masked_fill(~valid, 0.0)),
        "changes padding": changed & ~valid,
        f"changes more than epsilon={_shown(budget.epsilon)} allows": (delta.abs() > bound) & valid,
    }
    if mask is not None:
        faults["changes elements outside its mask"] = changed & ~mask
    if box is not None:
        low, high = x.clamp(max=box[0]), x.clamp(min=box[1])
        faults[f"leaves the box {box} of the victim"] = ((x_adv < low) | (x_adv > high)) & valid
    return {fault: elements.flatten(1).any(1) for fault, elements in faults.items()} | {
        f"changes more than its budget of {budget.granularity}s": (
            budget.touched(changed & valid, lengths) > units
        )
    }


def _shown(epsilon: float | Tensor) -> str:
    if isinstance(epsilon, int | float):
        return f"{epsilon:g}"
    return "(per utterance)" if epsilon.ndim == 2 else "(per channel)"
