"""How the elements of a saliency map rank: by magnitude, gradients times the scale of a channel."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

from sigma_ser.core.contracts import MapKind, Victim
from sigma_ser.core.errors import ExplainerError, ShapeError
from sigma_ser.core.features import FeatureBatch, valid_frames
from sigma_ser.core.passes import per_channel


def ranking_scale(kind: MapKind, victim: Victim, batch: FeatureBatch) -> Float[Tensor, "D"] | None:
    """What `|A|` is multiplied with before it ranks: the scale for gradients, else nothing."""
    return per_channel(victim.scale, batch.x) if kind == "gradient" else None


def ranking_scores(
    saliency: Float[Tensor, "B T D"],
    lengths: Int[Tensor, "B"],
    *,
    scale: Float[Tensor, "D"] | None = None,
) -> Float[Tensor, "B T D"]:
    """`|saliency|`, times `scale` where one is given: what an element counts in a ranking.

    Raises:
        ExplainerError: if a valid element is NaN or infinite.
        ShapeError: if the shapes do not fit.
    """
    if not isinstance(saliency, Tensor) or not isinstance(lengths, Tensor):
        raise ShapeError(
            "saliency (B, T, D) and lengths (B,) must be torch tensors, got a "
            f"{type(saliency).__name__} and a {type(lengths).__name__}; an Explanation has its "
            "map in .saliency"
        )
    if saliency.ndim != 3 or lengths.shape != saliency.shape[:1]:
        raise ShapeError(
            f"saliency must be (B, T, D) with lengths (B,), "
            f"got {tuple(saliency.shape)} and {tuple(lengths.shape)}"
        )
    if len(lengths) and not 1 <= int(lengths.min()) <= int(lengths.max()) <= saliency.shape[1]:
        raise ShapeError(
            f"each length must lie between 1 and {saliency.shape[1]} frames, got {lengths.tolist()}"
        )
    if scale is not None and scale.shape != saliency.shape[2:]:
        raise ShapeError(
            f"scale has shape {tuple(scale.shape)}, the saliency {saliency.shape[2]} channels"
        )
    scores = saliency.detach().abs()
    scores = scores if scale is None else scores * scale
    padding = ~valid_frames(lengths, saliency.shape[1])[:, :, None]
    if bool(padding.any()):
        scores = scores.masked_fill(padding, 0.0)
    if not bool(torch.isfinite(scores).all()):
        raise ExplainerError(
            "the saliency holds NaN or infinity, so it ranks nothing; "
            "check the victim's weights and the features"
        )
    return scores
