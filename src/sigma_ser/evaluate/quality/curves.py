"""Faithfulness of a map: deletion and insertion curves."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Float64, Int
from torch import Tensor

from sigma_ser.core.contracts import Victim
from sigma_ser.core.errors import ExplainerError
from sigma_ser.core.features import FeatureBatch
from sigma_ser.core.passes import per_channel


def deletion(
    victim: Victim,
    batch: FeatureBatch,
    labels: Int[Tensor, "B"],
    scores: Float[Tensor, "B T D"],
    *,
    steps: int = 10,
    upto: float = 1.0,
    rows: int = 64,
) -> Float64[Tensor, "B S"]:
    """Probability of the explained class while the most salient elements are deleted.

    A deleted element takes the victim's channel mean. Source: Petsiuk, Das, Saenko 2018, section
    4.1 (algorithm 1).

    Args:
        victim: the classifier; its `mean` replaces deleted elements.
        batch: features `(B, T, D)`.
        labels: the explained class `(B,)`.
        scores: ranking scores of the elements `(B, T, D)`, see
            `sigma_ser.explainers.ranking.ranking_scores`.
        steps: points of the curve after the first, at least 1.
        upto: share of the valid elements that is deleted at the last point, in (0, 1].
        rows: maximum number of rows in one call of the victim.

    Returns:
        `(B, steps + 1)` probabilities; they decrease fast for a faithful map.

    Raises:
        ExplainerError: if `steps` or `upto` is out of its range.
    """
    ranked = _places(scores, batch)
    keep = [ranked >= share for share in _shares(batch, steps, upto)]
    return _probabilities(victim, batch, labels, keep, rows=rows)


def insertion(
    victim: Victim,
    batch: FeatureBatch,
    labels: Int[Tensor, "B"],
    scores: Float[Tensor, "B T D"],
    *,
    steps: int = 10,
    upto: float = 1.0,
    rows: int = 64,
) -> Float64[Tensor, "B S"]:
    """Probability of the explained class while the most salient elements are inserted.

    The curve starts from the victim's channel means. Source: Petsiuk, Das, Saenko 2018, section
    4.1 (algorithm 1).

    Args:
        victim: the classifier; its `mean` stands in place of elements not yet inserted.
        batch: features `(B, T, D)`.
        labels: the explained class `(B,)`.
        scores: ranking scores of the elements `(B, T, D)`, see
            `sigma_ser.explainers.ranking.ranking_scores`.
        steps: points of the curve after the first, at least 1.
        upto: share of the valid elements that is inserted at the last point, in (0, 1].
        rows: maximum number of rows in one call of the victim.

    Returns:
        `(B, steps + 1)` probabilities; they increase fast for a faithful map.

    Raises:
        ExplainerError: if `steps` or `upto` is out of its range.
    """
    ranked = _places(scores, batch)
    keep = [ranked < share for share in _shares(batch, steps, upto)]
    return _probabilities(victim, batch, labels, keep, rows=rows)


def area(curve: Float64[Tensor, "B S"]) -> Float64[Tensor, "B"]:
    """Area under curves over the unit interval by the trapezoidal rule.

    Args:
        curve: `(B, S)` values at equal distances.

    Returns:
        `(B,)`, in [0, 1] for probabilities.
    """
    return (curve[:, 1:] + curve[:, :-1]).mean(1) / 2


def _shares(batch: FeatureBatch, steps: int, upto: float) -> list[Int[Tensor, "B 1 1"]]:
    if steps < 1 or not 0 < upto <= 1:
        raise ExplainerError(
            f"a curve needs at least 1 step and a share in (0, 1], got {steps} and {upto}"
        )
    valid = (batch.lengths * batch.x.shape[2])[:, None, None]
    return [(valid.double() * upto * step / steps).round().long() for step in range(steps + 1)]


def _places(scores: Float[Tensor, "B T D"], batch: FeatureBatch) -> Int[Tensor, "B T D"]:
    """Position of each element in the order of decreasing score, ties in the order of elements."""
    flat = scores.masked_fill(~batch.valid[:, :, None], -1.0).flatten(1)
    order = flat.sort(dim=1, descending=True, stable=True).indices
    numbers = torch.arange(flat.shape[1], device=flat.device).expand_as(order)
    return torch.empty_like(order).scatter_(1, order, numbers).view(scores.shape)


def _probabilities(
    victim: Victim,
    batch: FeatureBatch,
    labels: Int[Tensor, "B"],
    keep: list[Bool[Tensor, "B T D"]],
    *,
    rows: int,
) -> Float64[Tensor, "B S"]:
    x = batch.x.masked_fill(~batch.valid[:, :, None], 0.0)
    mean = per_channel(victim.mean, x).expand_as(x)
    points = torch.stack([torch.where(kept, x, mean) for kept in keep], 1).flatten(0, 1)
    lengths = batch.lengths.repeat_interleave(len(keep))
    with torch.no_grad():
        logits = torch.cat(
            [
                victim(part, part_lengths)
                for part, part_lengths in zip(
                    torch.split(points, rows), torch.split(lengths, rows), strict=True
                )
            ]
        )
    index = labels.to(x.device).repeat_interleave(len(keep))[:, None]
    return logits.double().softmax(1).gather(1, index).view(len(batch), len(keep))
