"""Saliency maps on a relative time axis, on which utterances of different length are averaged."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

from sigma_ser.core.errors import ShapeError


def fold(
    scores: Float[Tensor, "B T D"],
    lengths: Int[Tensor, "B"],
    *,
    bins: int = 10,
    groups: Int[Tensor, "B"] | None = None,
) -> dict[int, Float[Tensor, "bins D"]]:
    """Average maps on a relative time axis, over all utterances or over those of each group.

    Each map is averaged over `bins` equal parts of its duration and normalised to the sum 1.
    `bins=1` retains the channels only.

    Args:
        scores: ranking scores `(B, T, D)`, at least 0.
        lengths: valid frames `(B,)`.
        bins: number of parts of the duration, at least 1.
        groups: `(B,)` the group of each utterance, such as its class; `None` is group 0 for all.

    Returns:
        A map `(bins, D)` for each group, with the sum 1.

    Raises:
        ShapeError: if `bins` is below 1 or `groups` does not fit.
    """
    if bins < 1 or (groups is not None and groups.shape != lengths.shape):
        raise ShapeError("universal maps need bins of at least 1 and a group for each utterance")
    groups = torch.zeros_like(lengths) if groups is None else groups.to(lengths.device)
    maps_of_groups: dict[int, Tensor] = {}
    for group in sorted(set(groups.tolist())):
        rows = (groups == group).nonzero()[:, 0].tolist()
        maps = []
        for row in rows:
            here = scores[row, : int(lengths[row])].T[None]
            folded = torch.nn.functional.adaptive_avg_pool1d(here, bins)[0].T
            maps.append(folded / folded.sum().clamp(min=torch.finfo(folded.dtype).tiny))
        maps_of_groups[group] = torch.stack(maps).mean(0)
    return maps_of_groups


def unfold(
    universal_map: Float[Tensor, "bins D"], lengths: Int[Tensor, "B"]
) -> Float[Tensor, "B T D"]:
    """Expand a map on a relative time axis to the frames of utterances.

    A frame takes the values of the part of the duration that contains its centre.

    Args:
        universal_map: `(bins, D)`.
        lengths: valid frames `(B,)`.

    Returns:
        `(B, T, D)` with `T` the largest length, zero on padding.
    """
    bins = len(universal_map)
    frames = int(lengths.max())
    middle = torch.arange(frames, device=lengths.device)[None, :] + 0.5
    part = (middle * bins / lengths[:, None]).long().clamp(max=bins - 1)
    padding = torch.arange(frames, device=lengths.device)[None, :] >= lengths[:, None]
    return universal_map.to(lengths.device)[part].masked_fill(padding[:, :, None], 0.0)
