"""Parabolas above the kinks of ReLU, for many changed elements in a frame.

The chords of the module `relaxation` let every unit reach its own extreme. The units share the
elements, however, and the squared changes `a_i` of all of them are bounded together. With `e` the
change of a pre-activation in the direction of its kink at the distance `|h|`, for every `w > 0`

    (e - |h|)_+ <= e^2 / (4 w) + m e + w m^2,   m = (1 - |h| / w)_+ / 2,

which touches both sides of the kink where `|h| < w`. The slope `m` is part of the linear damage,
`w m^2` is a price of each frame, and the squares of all units are a quadratic form of the elements.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from .relaxation import FrameScores, quadratic_scores

# Values of `w` that are tried, in units of the median of `|h|`.
_WIDTHS = (0.05, 0.1, 0.2, 0.3, 0.45, 0.65, 0.9, 1.3, 1.8, 2.5)


def parabola(
    distance: Float[Tensor, "*N"], width: float | Float[Tensor, "*N"]
) -> tuple[Float[Tensor, "*N"], Float[Tensor, "*N"]]:
    """The slope `m` and the constant `w m^2` of the parabola with the curvature `1 / (4 w)`."""
    slope = 0.5 * (1 - distance / width).clamp(min=0.0)
    return slope, width * slope.square()


def curved_scores(
    weight: Float[Tensor, "H D"],
    h: Float[Tensor, "T H"],
    coefficients: Float[Tensor, "J T H"],
    radius: Float[Tensor, "T D"],
    counts: list[int],
) -> list[FrameScores]:
    """Score every element of every frame for `J` margins, with parabolas above the kinks.

    Args:
        weight: float64 `(H, D)`.
        h: clean pre-activations.
        coefficients: derivative of each margin by each activation.
        radius: largest change of each element.
        counts: numbers of elements of a frame that may change.

    Returns:
        For each count the scores that hold while at most that number of elements changes in each
        frame.
    """
    kinks, distance = (-coefficients).clamp(min=0.0), h.abs()
    toward, tangent = torch.where(h > 0, -1.0, 1.0), torch.where(h > 0, -coefficients, 0.0)
    widest = radius.amax(0)
    share = radius / widest.clamp(min=1e-300)
    widths = [unit * float(distance.median().clamp(min=1e-9)) for unit in _WIDTHS]
    prices = torch.stack([(kinks * parabola(distance, one)[1]).sum(2).mean(1) for one in widths])
    # The weight of a unit in the form must hold for all frames.
    bent = kinks.amax(1).sqrt()[:, :, None] * weight * widest
    found = []
    for count in counts:
        form = quadratic_scores(bent, count)
        curvature = torch.tensor([1 / (4 * one) for one in widths]).double()[:, None]
        best = (prices + count * form.amax(1) * curvature).argmin(0)
        width = torch.tensor(widths).double()[best][:, None, None]
        slope, price = parabola(distance, width)
        scores = ((tangent + toward * kinks * slope) @ weight).abs() * radius
        scores = scores + form[:, None, :] * share / (4 * width)
        found.append(FrameScores(count, scores, (kinks * price).sum(2)))
    return found
