"""How large a perturbation is, over the valid elements of each utterance."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

from sigma_ser.core.errors import ShapeError
from sigma_ser.core.features import FeatureBatch


def sizes(
    batch: FeatureBatch, x_adv: Float[Tensor, "B T D"], scale: Float[Tensor, "D"]
) -> dict[str, Tensor]:
    """Sizes of `delta = x_adv - x`, each `(B,)`.

    Args:
        batch: the clean features.
        x_adv: the features after the attack.
        scale: `(D,)` standard deviations of the channels, the unit of epsilon.

    Returns:
        `l0` (elements changed), `l0_share` (of the valid ones, in [0, 1]), `l2` (feature units),
        `l2_scaled` (units of scale), `linf` (units of scale, as epsilon), `linf_features` (feature
        units), `frames_touched`, `channels_touched`. Counts are integers, the rest float64.

    Raises:
        ShapeError: if the shapes differ.
    """
    if x_adv.shape != batch.x.shape:
        raise ShapeError(f"x_adv has shape {tuple(x_adv.shape)}, the batch {tuple(batch.x.shape)}")
    delta = (x_adv.detach() - batch.x).double().masked_fill(~batch.valid[:, :, None], 0.0)
    scaled = delta / scale.double()
    changed = delta != 0
    l0 = changed.sum((1, 2))
    return {
        "l0": l0,
        "l0_share": l0.double() / (batch.lengths * batch.x.shape[2]).double(),
        "l2": (delta**2).sum((1, 2)).sqrt(),
        "l2_scaled": (scaled**2).sum((1, 2)).sqrt(),
        "linf": scaled.abs().amax((1, 2)),
        "linf_features": delta.abs().amax((1, 2)),
        "frames_touched": changed.any(2).sum(1),
        "channels_touched": changed.any(1).sum(1),
    }
