"""Masks of the most salient units under a budget: exactly `k` units, ties by position."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from sigma_ser.core.budget import Budget
from sigma_ser.core.contracts import Explainer, Explanation, Victim
from sigma_ser.core.errors import BudgetError
from sigma_ser.core.features import FeatureBatch
from sigma_ser.core.topk import topk_support
from sigma_ser.explainers.ranking import ranking_scale, ranking_scores


def topk_mask(
    saliency: Float[Tensor, "B T D"],
    lengths: Int[Tensor, "B"],
    budget: Budget,
    scope: int = 1,
    *,
    scale: Float[Tensor, "D"] | None = None,
) -> Bool[Tensor, "B T D"]:
    """Select the `scope * k` most salient units of each utterance, or all if there are fewer.

    A unit ranks by the sum of `|saliency|` over its valid elements; among equal units the first
    one is selected.

    Args:
        saliency: `(B, T, D)`, signed or not, finite on valid frames.
        lengths: valid frames `(B,)`.
        budget: number of units that may change, and the kind of unit.
        scope: mask size as a multiple of the number of units that may change, at least 1.
        scale: `(D,)` standard deviations of the channels. Give it for maps that are gradients;
            units are then ranked by `|saliency| * scale[d]`, the first-order effect of a step of
            `epsilon * scale[d]`. `None` ranks by `|saliency|`.

    Returns:
        Bool `(B, T, D)`, False on padding, with `scope * k` whole units, or all valid units if
        there are fewer.

    Raises:
        BudgetError: if `scope` is below 1, or the budget does not fit an utterance.
        ExplainerError: if the saliency holds NaN or infinity.
        ShapeError: if the shapes do not fit.

    >>> import torch, sigma_ser as ss
    >>> saliency = torch.tensor([[[3.0, -5.0], [1.0, 0.0]]])
    >>> ss.topk_mask(saliency, torch.tensor([2]), ss.Budget(count=1)).nonzero().tolist()
    [[0, 0, 1]]
    """
    if not isinstance(budget, Budget):
        raise BudgetError(
            f"the budget must be an ss.Budget(sparsity=..., epsilon=...), got {budget!r}"
        )
    ranked = ranking_scores(saliency, lengths, scale=scale)
    units = units_in_scope(budget, lengths, saliency.shape[2], scope)
    scores = budget.unit_scores(ranked, lengths)
    allowed = budget.unit_allowed(None, lengths, saliency.shape)
    return budget.expand(topk_support(scores, units, allowed), lengths, saliency.shape)


def explainer_mask(  # noqa: PLR0917 - an explanation and its mask, as topk_mask
    explainer: Explainer,
    explanation: Explanation,
    victim: Victim,
    batch: FeatureBatch,
    budget: Budget,
    scope: int = 1,
) -> Bool[Tensor, "B T D"]:
    """Compute the mask of an explanation, ranked according to the kind of its explainer.

    Args:
        explainer: its `kind` determines whether the map is ranked as a gradient.
        explanation: the explanation of `batch`.
        victim: its `scale` is the unit of `epsilon`.
        batch: features `(B, T, D)`.
        budget: number of units that may change, and the kind of unit.
        scope: mask size as a multiple of the number of units that may change, at least 1.

    Returns:
        Bool `(B, T, D)`, False on padding, with `scope * k` whole units, or all valid units if
        there are fewer.

    Raises:
        BudgetError: if `scope` is below 1, or the budget does not fit an utterance.
        ExplainerError: if the map holds NaN or infinity.
    """
    scale = ranking_scale(explainer.kind, victim, batch)
    return topk_mask(explanation.saliency, batch.lengths, budget, scope, scale=scale)


def units_in_scope(
    budget: Budget, lengths: Int[Tensor, "B"], channels: int, scope: int
) -> Int[Tensor, "B"]:
    """Compute the number of units of a mask, `min(scope * units, available)`.

    Args:
        budget: number of units that may change, and the kind of unit.
        lengths: valid frames `(B,)`.
        channels: number of channels `D`.
        scope: mask size as a multiple of the number of units that may change, at least 1.

    Returns:
        `(B,)`.

    Raises:
        BudgetError: if `scope` is not an integer from 1, or the budget does not fit an utterance.
    """
    if isinstance(scope, bool) or not isinstance(scope, int) or scope < 1:
        raise BudgetError(f"scope must be an integer of at least 1, got {scope!r}")
    available = budget.available(lengths, channels)
    return torch.minimum(scope * budget.units(lengths, channels), available)
