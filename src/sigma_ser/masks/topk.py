"""From map to mask: the most salient units under a budget, exactly `k`, ties by position."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from sigma_ser.core.budget import Budget
from sigma_ser.core.contracts import Explainer, Explanation, MapKind, Victim
from sigma_ser.core.errors import BudgetError, ExplainerError, ShapeError
from sigma_ser.core.features import FeatureBatch, valid_frames
from sigma_ser.core.passes import per_channel
from sigma_ser.core.topk import topk_support


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


def units_in_scope(
    budget: Budget, lengths: Int[Tensor, "B"], channels: int, scope: int
) -> Int[Tensor, "B"]:
    """How many units a mask of this scope holds: `min(scope * units, available)`."""
    if isinstance(scope, bool) or not isinstance(scope, int) or scope < 1:
        raise BudgetError(f"scope must be a whole number from 1 up, got {scope!r}")
    available = budget.available(lengths, channels)
    return torch.minimum(scope * budget.units(lengths, channels), available)
