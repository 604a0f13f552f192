"""Bounds of the damage that changes of single elements do through one layer with ReLU.

The pre-activations of a frame are `h = W x + b`. A change of `n` elements moves unit `i` by
`a_i = sum_d W_id delta_d` with `|a_i| <= R_i(n)`, the sum of the `n` largest `r_d |W_id|`. For an
output coefficient `c_i` of the margin, the damage is `-c_i (ReLU(h_i + a_i) - ReLU(h_i))`:

- It is at most `-c_i s_i a_i` with the slope `s_i = 1[h_i > 0]` of the clean frame, plus `-c_i`
  times the part beyond the kink for `c_i < 0`. That part is `max(0, sign_i a_i - |h_i|)`, where
  `sign_i` is the direction of the kink.
- The part beyond the kink is convex in `a_i`, zero up to `|h_i|`, and so at most
  `(1 - |h_i| / R_i(n))_+ max(0, sign_i a_i)`; and `max(0, a_i)` is at most the sum of the positive
  parts of its elements.
- A unit near its kink with `c_i > 0` may be given the slope 0 instead, at a price of `c_i h_i`.
- A square `e_i d_i^2` of the change `d_i` of an activation, as a second-order bound of the next
  layer contains it, is at most `e_i (f_i a_i)^2` with `f_i = 1` for an active unit and the share
  beyond the kink for another. The sum over the units is a quadratic form of the elements; the part
  of one element is at most the sum of the `n` largest absolute values in its row, or the largest
  eigenvalue.

All of it is a sum over the changed elements (and the price), so that the worst change takes the
elements of largest score. The bound for `n` elements also holds for fewer.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

# Closer together where the optimal split of small budgets lies.
_COUNTS = (1, 2, 4, 8, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512, 1024)
# Units whose share of active frames exceeds this divided by the count go into one quadratic form.
_TOGETHER = 4.0


@dataclass(frozen=True, eq=False)
class FrameScores:
    """Scores of the elements of each frame, valid while at most `most` of them change per frame.

    The damage of a change is at most the sum of the scores of its elements, plus `price` once for
    each frame with a change.
    """

    most: int
    scores: Float[Tensor, "J T D"]
    price: Float[Tensor, "J T"]


def reach_of_units(
    weight: Float[Tensor, "H D"], radius: Float[Tensor, "T D"], most: int
) -> Float[Tensor, "T H"]:
    """`R_ti(n)`: the largest change of each pre-activation when at most `most` elements change."""
    if bool((radius == radius[:1]).all()):
        return _top(weight.abs() * radius[0], most).expand(len(radius), -1)
    found = radius.new_zeros(len(radius), len(weight))
    for frame, allowed in enumerate(radius):
        channels = allowed.nonzero()[:, 0]
        if len(channels):
            found[frame] = _top(weight[:, channels].abs() * allowed[channels], most)
    return found


def _top(values: Float[Tensor, "H D"], k: int) -> Float[Tensor, "H"]:
    return values.topk(min(k, values.shape[1]), dim=1).values.sum(1)


def element_scores(  # noqa: PLR0917 - the symbols of the module's formulas
    weight: Float[Tensor, "H D"],
    h: Float[Tensor, "T H"],
    coefficients: Float[Tensor, "J T H"],
    radius: Float[Tensor, "T D"],
    most: int,
    near: float = 0.0,
    *,
    squares: Float[Tensor, "J H"] | None = None,
) -> FrameScores:
    """Score every element of every frame for `J` margins.

    Args:
        weight: float64 `(H, D)`.
        h: clean pre-activations.
        coefficients: `c`, the derivative of each margin by each activation.
        radius: largest change of each element.
        most: number of elements of a frame that may change.
        near: units with `c > 0` and `0 < h < near * R` have the slope 0.
        squares: `e >= 0`, weights of the squared change of each activation, part of the damage.

    Returns:
        The scores for at most `most` changed elements in each frame.
    """
    reach = reach_of_units(weight, radius, most)
    active = h > 0
    beyond = beyond_kink(h, reach)
    flat = active & (h < near * reach) & (coefficients > 0)
    slope = torch.where(active & ~flat, -coefficients, 0.0)
    price = torch.where(flat, coefficients * h, 0.0).sum(2)
    kink = torch.where(coefficients < 0, -coefficients * beyond, 0.0)
    toward = torch.where(active, -1.0, 1.0)
    # max over the sign of the change of  sign q + sum_i w_i max(0, sign sign_i W_id)
    linear = (slope + 0.5 * toward * kink) @ weight
    scores = (linear.abs() + 0.5 * kink @ weight.abs()) * radius
    if squares is not None:
        follows = torch.where(active, 1.0, beyond).square()
        scores = scores + _square_scores(weight, follows, squares, radius, most)
    return FrameScores(most, scores, price)


def _square_scores(
    weight: Float[Tensor, "H D"],
    follows: Float[Tensor, "T H"],
    squares: Float[Tensor, "J H"],
    radius: Float[Tensor, "T D"],
    most: int,
) -> Float[Tensor, "J T D"]:
    """Scores of `sum_i e_i f_ti (W_i delta)^2` for at most `most` changes in a frame."""
    # `(sum of n terms)^2 <= n (sum of their squares)` keeps the frames apart, and the quadratic
    # form keeps the units together.
    together = follows.mean(0) > _TOGETHER / most
    apart = (squares * ~together)[:, None, :] * follows
    scores = most * (apart @ weight.square()) * radius.square()
    if bool(together.any()):
        widest = radius.amax(0)
        bent = (squares[:, together] * follows[:, together].amax(0)).sqrt()
        form = quadratic_scores(bent[:, :, None] * weight[together] * widest, most)
        scores = scores + form[:, None, :] * (radius / widest.clamp(min=1e-300))
    return scores


def quadratic_scores(weight: Float[Tensor, "J H D"], most: int) -> Float[Tensor, "J D"]:
    """Numbers `q` with `||W delta||^2 <= sum q_d |delta_d|` for `most` changes in [-1, 1].

    The sum of the `most` largest absolute values in a row of `W^T W`, or a bound of its largest
    eigenvalue.
    """
    form = weight.transpose(-1, -2) @ weight
    by_rows = _top(form.abs().flatten(0, -2), most).view(form.shape[:-1])
    # The fourth root of the trace of the fourth power.
    largest = torch.linalg.matrix_norm(form @ form).sqrt()
    # One or the other bounds the form; the smaller one of each element would not.
    better = largest[..., None] < by_rows.mean(-1, keepdim=True)
    return torch.where(better, largest[..., None], by_rows)


def beyond_kink(h: Float[Tensor, "*N"], reach: Float[Tensor, "*N"]) -> Float[Tensor, "*N"]:
    """`(1 - |h| / R)_+`: the part of a change toward the kink that lies beyond it, at most."""
    return (1 - h.abs() / reach.clamp(min=1e-300)).clamp(min=0.0)


def damage_of_counts(parts: list[FrameScores]) -> Float[Tensor, "J T N"]:
    """Bound the damage of each frame by its number of changed elements, from 0 to the largest.

    Args:
        parts: scores of the same frames; each part bounds the counts up to its `most`.

    Returns:
        For each margin, frame and count the smallest bound of all parts.
    """
    largest = max(part.most for part in parts)
    margins, frames, _ = parts[0].scores.shape
    found = parts[0].scores.new_full((margins, frames, largest + 1), torch.inf)
    found[..., 0] = 0.0
    for part in parts:
        best = part.scores.topk(part.most, dim=2).values.cumsum(2) + part.price[..., None]
        known = found[..., 1 : part.most + 1]
        torch.minimum(known, best, out=known)
    return found


def counts_to_bound(most: int) -> list[int]:
    """Numbers of elements per frame at which scores are computed, up to `most`."""
    return [*(count for count in _COUNTS if count < most), most]
