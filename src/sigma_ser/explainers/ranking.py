"""Ranking of elements by a saliency map: by magnitude, for gradients times the channel scale."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from sigma_ser.core.contracts import MapKind, Victim
from sigma_ser.core.errors import ExplainerError, ShapeError
from sigma_ser.core.features import FeatureBatch, valid_frames
from sigma_ser.core.passes import per_channel


def ranking_scale(kind: MapKind, victim: Victim, batch: FeatureBatch) -> Float[Tensor, "D"] | None:
    """Return the factor of `|A|` in the ranking: the scale `(D,)` for gradients, else `None`.

    A step of `epsilon * scale[d]` changes the output by `|A| * epsilon * scale[d]` to first order.

    Args:
        kind: kind of the map, `gradient` or `attribution`.
        victim: the classifier that is explained.
        batch: features `(B, T, D)`.
    """
    return per_channel(victim.scale, batch.x) if kind == "gradient" else None


def ranking_scores(
    saliency: Float[Tensor, "B T D"],
    lengths: Int[Tensor, "B"],
    *,
    scale: Float[Tensor, "D"] | None = None,
) -> Float[Tensor, "B T D"]:
    """Compute the ranking scores of elements: `|saliency|`, times `scale` where it is given.

    Args:
        saliency: a map `(B, T, D)`, signed or not, finite on valid frames.
        lengths: valid frames `(B,)`, each from 1 to `T`.
        scale: `(D,)`, see `ranking_scale`.

    Returns:
        Scores `(B, T, D)`, at least 0, zero on padding.

    Raises:
        ExplainerError: if a valid element is NaN or infinite.
        ShapeError: if the shapes do not fit.
    """
    if not isinstance(saliency, Tensor) or not isinstance(lengths, Tensor):
        raise ShapeError(
            "saliency (B, T, D) and lengths (B,) must be torch tensors, got "
            f"{type(saliency).__name__} and {type(lengths).__name__}; an Explanation has its "
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
            "the saliency holds NaN or infinity and cannot be ranked; "
            "check the victim's weights and the features"
        )
    return scores


def zero_maps(saliency: Float[Tensor, "B T D"], lengths: Int[Tensor, "B"]) -> Bool[Tensor, "B"]:
    """Find the utterances whose map is exactly zero at every valid element.

    Such a map ranks nothing: a mask of its top elements consists of the first elements.

    Args:
        saliency: maps or ranking scores `(B, T, D)`.
        lengths: valid frames `(B,)`.

    Returns:
        `(B,)`, True for a map of zeros.
    """
    valid = valid_frames(lengths.to(saliency.device), saliency.shape[1])[:, :, None]
    return ~((saliency != 0) & valid).flatten(1).any(1)


def zero_map_share(saliency: Float[Tensor, "B T D"], lengths: Int[Tensor, "B"]) -> float:
    """Compute the share of utterances whose map is exactly zero, 0 for an empty batch.

    Args:
        saliency: maps or ranking scores `(B, T, D)`.
        lengths: valid frames `(B,)`.

    Returns:
        A share in [0, 1].
    """
    return float(zero_maps(saliency, lengths).double().mean()) if len(lengths) else 0.0
