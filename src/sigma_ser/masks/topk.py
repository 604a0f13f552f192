"""From map to mask: the most salient units under a budget, exactly `k`, ties by position."""

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
    """The `scope * k` most salient units of each utterance; fewer only where fewer exist.

    A unit ranks by the sum of `|saliency|` over its valid elements; of equal units the first wins.

    Args:
        saliency: `(B, T, D)`, signed or not, finite on valid frames.
        lengths: valid frames `(B,)`.
        budget: how many units may change, and what a unit is.
        scope: how many times more units the mask holds than may change, at least 1.
        scale: `(D,)` standard deviations of the channels, for gradient-kind maps: a step of
            `epsilon * scale[d]` gains `|A| * scale[d]`. `None` ranks by `|A|`.

    Returns:
        Bool `(B, T, D)`, False on padding, with `min(scope * units, available)` whole units.

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
            f"the budget comes as ss.Budget(sparsity=..., epsilon=...), not as {budget!r}"
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
    """The mask of an explanation, ranked as its explainer's kind demands.

    Args:
        explainer: says whether its map is a gradient or an attribution.
        explanation: its map of `batch`.
        victim: gives the scale of the channels, the unit of `epsilon`.
        batch: the utterances.
        budget: how many units may change.
        scope: how many times more units the mask holds.

    Raises:
        As :func:`topk_mask`.
    """
    scale = ranking_scale(explainer.kind, victim, batch)
    return topk_mask(explanation.saliency, batch.lengths, budget, scope, scale=scale)


def units_in_scope(
    budget: Budget, lengths: Int[Tensor, "B"], channels: int, scope: int
) -> Int[Tensor, "B"]:
    """How many units a mask of this scope holds: `min(scope * units, available)`."""
    if isinstance(scope, bool) or not isinstance(scope, int) or scope < 1:
        raise BudgetError(f"scope must be a whole number from 1 up, got {scope!r}")
    available = budget.available(lengths, channels)
    return torch.minimum(scope * budget.units(lengths, channels), available)
