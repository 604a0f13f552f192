"""The damage of an utterance whose frames pass one layer with ReLU, under every granularity."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from .allowed import Allowed
from .parabolas import curved_scores
from .relaxation import FrameScores, counts_to_bound, damage_of_counts, element_scores
from .sharing import worst_split

# Shares of its reach up to which an active unit is given the slope 0.
_NEAR = (0.0, 0.25)


def damage_of_frames(
    weight: Float[Tensor, "H D"],
    h: Float[Tensor, "T H"],
    coefficients: Float[Tensor, "J T H"],
    radius: Float[Tensor, "T D"],
    allowed: Allowed,
) -> Float[Tensor, "J"]:
    """Bound the damage of all allowed changes to `J` margins.

    Args:
        weight: float64 `(H, D)` of the layer on each frame.
        h: clean pre-activations.
        coefficients: derivative of each margin by each activation of each frame.
        radius: largest change of each input of the layer.
        allowed: the budget.

    Returns:
        An upper bound for each margin.
    """
    if allowed.most_per_frame == 0:
        return coefficients.new_zeros(len(coefficients))
    parts = [
        element_scores(weight, h, coefficients, radius, count, near)
        for count in counts_of_frames(allowed)
        for near in _NEAR
    ]
    parts += curved_scores(weight, h, coefficients, radius, counts_of_frames(allowed))
    return worst_damage(parts, allowed)


def counts_of_frames(allowed: Allowed) -> list[int]:
    """Numbers of elements of a frame for which scores are needed."""
    most = allowed.most_per_frame
    elements = allowed.budget.granularity == "element"
    return counts_to_bound(most) if elements else [most]


def worst_damage(parts: list[FrameScores], allowed: Allowed) -> Float[Tensor, "J"]:
    """Bound the damage of all allowed changes, whose elements have the given scores.

    Args:
        parts: scores for each of the numbers of elements that `counts_of_frames` returns, at least
            one part for each.
        allowed: the budget.

    Returns:
        An upper bound for each margin.
    """
    if allowed.budget.granularity == "element":
        return worst_split(damage_of_counts(parts), allowed.units)
    if allowed.budget.granularity == "channel":
        bounds = [allowed.largest(part.scores) + part.price.sum(1) for part in parts]
        return torch.stack(bounds).amin(0)
    # Whole frames: what a frame loses at most counts as the score of its first element.
    lost = torch.stack([part.scores.sum(2) + part.price for part in parts]).amin(0)
    scores = torch.zeros_like(parts[0].scores)
    scores[..., 0] = lost
    return allowed.largest(scores)
