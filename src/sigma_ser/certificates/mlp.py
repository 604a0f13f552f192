"""The bound of the head `mlp`: one layer on each frame, mean and deviation, a hidden layer."""

from __future__ import annotations

import dataclasses

import torch
from jaxtyping import Float
from torch import Tensor

from sigma_ser.victims.heads import MLP

from .allowed import Allowed
from .frames import damage_of_frames
from .relaxation import beyond_kink, reach_of_units
from .structure import KnownHead, weight_and_bias

_VARIANCE = 1e-5  # that `statistics_pool` adds


@dataclasses.dataclass(frozen=True, eq=False)
class MLPBound:
    """The layers of a head `mlp` in float64.

    With the activations `h` of the frames, the deviation of unit `i` is convex in `h_i`, and
    `s_i(h + d) <= s_i(h) + grad s_i . d + ||d||^2 / (2 T s_i)`: where a margin falls with the
    deviation the linear part alone bounds the damage, and where it rises the square is added.
    """

    head: KnownHead
    weight: Float[Tensor, "H D"]
    bias: Float[Tensor, "H"]
    hidden: Float[Tensor, "G 2*H"]
    hidden_bias: Float[Tensor, "G"]
    out: Float[Tensor, "C G"]
    offset: Float[Tensor, "C"]

    @classmethod
    def of(cls, head: KnownHead) -> MLPBound:
        """Read the layers of a head."""
        assert isinstance(head.module, MLP)
        classify = head.module.classify
        layers = (head.module.project[0], classify[1], classify[4])
        first, second, third = (weight_and_bias(layer) for layer in layers)
        return cls(head, *first, *second, *third)

    def logits(self, x: Float[Tensor, "N T D"]) -> Float[Tensor, "N C"]:
        """Logits of utterances without padding."""
        h = (self.head.standardised(x) @ self.weight.T + self.bias).relu()
        pooled = torch.cat([h.mean(1), _deviation(h)], 1)
        return (pooled @ self.hidden.T + self.hidden_bias).relu() @ self.out.T + self.offset

    def damage(self, allowed: Allowed) -> Float[Tensor, "C"]:
        """How much `z_y - z_j` can fall at most, for each class."""
        h = self.head.standardised(allowed.x) @ self.weight.T + self.bias
        active = h.relu()
        mean, deviation = active.mean(0), _deviation(active[None])[0]
        v = self.hidden @ torch.cat([mean, deviation]) + self.hidden_bias
        radius = allowed.radius / self.head.scale
        change = self._change_of_pooled(radius, allowed)
        reach = self._reach_of_hidden(radius, allowed, change)
        slope, kink = _upper_line(self.out[allowed.label] - self.out, v, reach)
        # The kinks of all units together, by Cauchy and Schwarz, or one by one.
        together = kink.norm(dim=1) * torch.linalg.matrix_norm(self.hidden, 2) * change
        price = 0.5 * torch.minimum(together, kink @ reach)
        # The damage is at most the price plus `by_mean . d(mean) + by_deviation . d(deviation)`.
        by_mean, by_deviation = (slope @ self.hidden).chunk(2, dim=1)
        deviating = (active - mean) / deviation
        rise = (by_mean[:, None, :] + by_deviation[:, None, :] * deviating) / len(h)
        curvature = by_deviation.clamp(min=0.0) / (2 * deviation * len(h))
        bent = curvature.sqrt()[:, :, None] * (self.weight * radius.amax(0))
        square = _square_of_element(bent, allowed.most_per_frame) * _elements(allowed)
        by_frames = damage_of_frames(self.weight, h, -rise, radius, allowed)
        total: Tensor = price + square + by_frames
        return total

    def _change_of_pooled(self, radius: Float[Tensor, "T D"], allowed: Allowed) -> Tensor:
        """A bound of the Euclidean norm of the change of means and deviations together.

        For each unit `d(mean)^2 + d(deviation)^2 <= ||dh_i||^2 / T`, because the deviation changes
        by at most that of `dh_i`. All `dh` are bounded for each changed element, or by every
        frame at its largest.
        """
        most = allowed.most_per_frame
        single = _square_of_element(self.weight * radius.amax(0), most)
        reached = reach_of_units(self.weight, radius, most).square().sum()
        squares = torch.minimum(single * _elements(allowed), reached)
        change: Tensor = (squares / len(radius)).sqrt()
        return change

    def _reach_of_hidden(
        self, radius: Float[Tensor, "T D"], allowed: Allowed, change: Tensor
    ) -> Float[Tensor, "G"]:
        """The largest change of each pre-activation of the hidden layer.

        The part of the means is bounded over all slopes of ReLU in [0, 1] and all splits of the
        budget, that of the deviations by the norm of all changes.
        """
        frames, most = len(radius), allowed.most_per_frame
        elements = _elements(allowed)
        widest = radius.amax(0)
        by_mean, by_deviation = self.hidden.chunk(2, dim=1)
        up, down = self.weight.clamp(min=0.0), (-self.weight).clamp(min=0.0)
        gain, loss = by_mean.clamp(min=0.0), (-by_mean).clamp(min=0.0)
        largest = torch.maximum(gain @ up + loss @ down, gain @ down + loss @ up) * widest
        sums = largest.sort(dim=1, descending=True).values.cumsum(1)
        per_frame = min(elements / frames, float(most))
        moved = _between(sums, per_frame)
        separate = moved + by_deviation.norm(dim=1) * change
        return torch.minimum(separate, self.hidden.norm(dim=1) * change)


def _elements(allowed: Allowed) -> float:
    """The largest number of elements that may change."""
    return float(allowed.largest((allowed.radius > 0).double()[None])[0])


def _square_of_element(weight: Float[Tensor, "*J H D"], most: int) -> Float[Tensor, "*J"]:
    """A number `q` with `||W delta||^2 <= q n` for `n <= most` changes in [-1, 1].

    The squared spectral norm, or the largest sum of `most` absolute values in a row of `W^T W`.
    """
    rows = (weight.transpose(-1, -2) @ weight).abs()
    by_rows = rows.topk(most, dim=-1).values.sum(-1).amax(-1)
    return torch.minimum(torch.linalg.matrix_norm(weight, 2).square(), by_rows)


def _deviation(h: Float[Tensor, "N T H"]) -> Float[Tensor, "N H"]:
    variance = (h - h.mean(1, keepdim=True)).square().mean(1)
    return (variance + _VARIANCE).sqrt()


def _between(sums: Float[Tensor, "G D"], count: float) -> Float[Tensor, "G"]:
    """Cumulative sums at a count that is no whole number: they are concave, so linear between."""
    padded = torch.cat([torch.zeros_like(sums[:, :1]), sums], 1)
    below = min(int(count), sums.shape[1] - 1)
    share = count - below
    return (1 - share) * padded[:, below] + share * padded[:, below + 1]


def _upper_line(
    coefficients: Float[Tensor, "J G"], v: Float[Tensor, "G"], reach: Float[Tensor, "G"]
) -> tuple[Float[Tensor, "J G"], Float[Tensor, "J G"]]:
    """Slopes and kinks of an upper bound of `-c (ReLU(v + d) - ReLU(v))` on `|d| <= reach`.

    The bound is `slope * d + kink * |d| / 2`. Where the function is concave (`c > 0`) it is the
    tangent at the clean point; where it is convex, the part beyond the kink is added.
    """
    kink = (-coefficients).clamp(min=0.0) * beyond_kink(v, reach)
    toward = torch.where(v > 0, -1.0, 1.0)
    return 0.5 * toward * kink - coefficients * (v > 0), kink
