"""Consensus of saliency maps over explainers or victims."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

from sigma_ser.core.errors import ShapeError
from sigma_ser.explainers.ranking import ranking_scores


def consensus(
    saliencies: Sequence[Float[Tensor, "B T D"]],
    lengths: Int[Tensor, "B"],
    *,
    scales: Sequence[Float[Tensor, "D"] | None] | None = None,
) -> Float[Tensor, "B T D"]:
    """Average the normalised ranking scores of maps over victims or explainers.

    The scores of each map are divided by their sum, so that all maps have equal weight.

    Args:
        saliencies: maps of the same utterances, `(B, T, D)` each.
        lengths: valid frames `(B,)`.
        scales: for each map the scale `(D,)` of its victim if it is a gradient, else `None`.

    Returns:
        Ranking scores `(B, T, D)`, at least 0, zero on padding, for maps of any kind. A map that is
        all zero does not contribute.

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


def _stacked(parts: Sequence[Tensor]) -> Tensor:
    if not parts or any(part.shape != parts[0].shape for part in parts):
        raise ShapeError("a consensus requires at least one map, all of the same shape")
    return torch.stack(list(parts))
