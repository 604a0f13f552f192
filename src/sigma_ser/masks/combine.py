"""Masks and maps put together: over explainers and victims, and over the utterances of a class."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from sigma_ser.core.errors import ShapeError

from .topk import ranking_scores


def union(masks: Sequence[Bool[Tensor, "B T D"]]) -> Bool[Tensor, "B T D"]:
    """What any of the masks holds; a scope that suits several victims.

    Raises:
        ShapeError: if there is no mask, or they differ in shape.
    """
    return _stacked(masks).any(0)


def intersection(masks: Sequence[Bool[Tensor, "B T D"]]) -> Bool[Tensor, "B T D"]:
    """What all of the masks hold; it may be empty.

    Raises:
        ShapeError: if there is no mask, or they differ in shape.
    """
    return _stacked(masks).all(0)


def consensus(
    saliencies: Sequence[Float[Tensor, "B T D"]],
    lengths: Int[Tensor, "B"],
    *,
    scales: Sequence[Float[Tensor, "D"] | None] | None = None,
) -> Float[Tensor, "B T D"]:
    """The mean over victims or explainers of maps that each weigh 1: a map to rank, at least 0.

    Args:
        saliencies: maps of the same utterances, `(B, T, D)` each.
        lengths: valid frames `(B,)`.
        scales: for each map the scale of its victim where it is a gradient, else `None`.

    Returns:
        `(B, T, D)`, zero on padding; ranks by itself, whatever the kinds were. A map that is all
        zero has no vote.

    Raises:
        ShapeError: if there is no map, or they differ in shape.
        ExplainerError: if a map is not finite.
    """
    scales = [None] * len(saliencies) if scales is None else scales
    shares = []
    for saliency, scale in zip(saliencies, scales, strict=True):
        scores = ranking_scores(saliency, lengths, scale=scale)
        mass = scores.sum((1, 2), keepdim=True)
        shares.append(scores / mass.masked_fill(mass == 0, 1.0))
    return _stacked(shares).mean(0)


def universal(
    scores: Float[Tensor, "B T D"],
    lengths: Int[Tensor, "B"],
    *,
    bins: int = 10,
    groups: Int[Tensor, "B"] | None = None,
) -> dict[int, Float[Tensor, "bins D"]]:
    """One map for a whole victim, or for each class, on a relative time axis.

    Utterances differ in length, so each map is averaged over `bins` equal parts of its duration;
    each then weighs 1. `bins=1` leaves only which channels matter.

    Args:
        scores: maps that rank by themselves, at least 0, `(B, T, D)`.
        lengths: valid frames `(B,)`.
        bins: parts of the duration, at least 1.
        groups: the class of each utterance; `None` puts all into group 0.

    Returns:
        For each group a map `(bins, D)` that sums to 1.

    Raises:
        ShapeError: if `bins` is below 1 or `groups` does not fit.
    """
    if bins < 1 or (groups is not None and groups.shape != lengths.shape):
        raise ShapeError("universal maps need bins of at least 1 and a group for each utterance")
    groups = torch.zeros_like(lengths) if groups is None else groups.to(lengths.device)
    told: dict[int, Tensor] = {}
    for group in sorted(set(groups.tolist())):
        rows = (groups == group).nonzero()[:, 0].tolist()
        maps = []
        for row in rows:
            here = scores[row, : int(lengths[row])].T[None]
            folded = torch.nn.functional.adaptive_avg_pool1d(here, bins)[0].T
            maps.append(folded / folded.sum().clamp(min=torch.finfo(folded.dtype).tiny))
        told[group] = torch.stack(maps).mean(0)
    return told


def unfold(
    universal_map: Float[Tensor, "bins D"], lengths: Int[Tensor, "B"]
) -> Float[Tensor, "B T D"]:
    """A universal map laid over utterances of their own lengths, zero on padding.

    A frame takes the values of the part of the duration that its middle lies in.
    """
    bins = len(universal_map)
    frames = int(lengths.max())
    middle = torch.arange(frames, device=lengths.device)[None, :] + 0.5
    part = (middle * bins / lengths[:, None]).long().clamp(max=bins - 1)
    padding = torch.arange(frames, device=lengths.device)[None, :] >= lengths[:, None]
    return universal_map.to(lengths.device)[part].masked_fill(padding[:, :, None], 0.0)


def _stacked(parts: Sequence[Tensor]) -> Tensor:
    if not parts or any(part.shape != parts[0].shape for part in parts):
        raise ShapeError("give at least one mask or map, all of the same shape")
    return torch.stack(list(parts))
