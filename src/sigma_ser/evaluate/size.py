"""Size of a perturbation over the valid elements of each utterance."""

from __future__ import annotations

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from sigma_ser.core.errors import ShapeError
from sigma_ser.core.features import FeatureBatch

_KINDS = {
    **dict.fromkeys(("l0", "frames_touched", "channels_touched"), torch.long),
    **dict.fromkeys(("l0_share", "l2", "l2_scaled", "linf", "linf_features"), torch.double),
}


def sizes(
    batch: FeatureBatch, x_adv: Float[Tensor, "B T D"], scale: Float[Tensor, "D"]
) -> dict[str, Tensor]:
    """Compute the sizes of `delta = x_adv - x`.

    Args:
        batch: the clean features `(B, T, D)`.
        x_adv: the features after the attack `(B, T, D)`.
        scale: `(D,)` standard deviations of the channels, the unit of epsilon.

    Returns:
        `(B,)` tensors by name: `l0` (number of changed elements), `l0_share` (as a share of the
        valid elements, in [0, 1]), `l2` (feature units), `l2_scaled` (units of scale), `linf`
        (units of scale, as epsilon), `linf_features` (feature units), `frames_touched`,
        `channels_touched`. Counts are integers, the others float64.

    Raises:
        ShapeError: if the shapes differ.
    """
    if x_adv.shape != batch.x.shape:
        raise ShapeError(
            f"x_adv must have the shape of the batch, {tuple(batch.x.shape)}, "
            f"got {tuple(x_adv.shape)}"
        )
    # One utterance at a time: intermediate results stay small, and the sizes of an utterance do
    # not depend on the rest of the batch.
    if not len(batch):
        return {name: torch.zeros(0, dtype=kind) for name, kind in _KINDS.items()}
    each = [
        _sizes_of(row[:count], clean[:count], scale.double())
        for row, clean, count in zip(x_adv.detach(), batch.x, batch.lengths.tolist(), strict=True)
    ]
    return {name: torch.stack([one[name] for one in each]) for name in each[0]}


def _sizes_of(
    x_adv: Float[Tensor, "T D"], x: Float[Tensor, "T D"], scale: Float64[Tensor, "D"]
) -> dict[str, Tensor]:
    delta = (x_adv - x).double()
    changed = delta != 0
    l0 = changed.sum()
    found = {
        "l0": l0,
        "l0_share": l0.double() / delta.numel(),
        "l2": delta.square().sum().sqrt(),
        "linf_features": delta.abs().amax(),
        "frames_touched": changed.any(1).sum(),
        "channels_touched": changed.any(0).sum(),
    }
    delta /= scale
    return found | {"l2_scaled": delta.square().sum().sqrt(), "linf": delta.abs().amax()}
