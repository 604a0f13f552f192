"""The bound of the head `mlp`: one layer on each frame, mean and deviation, a hidden layer."""

from __future__ import annotations

import dataclasses

import torch
from jaxtyping import Float
from torch import Tensor

from sigma_ser.victims.heads import MLP

from .allowed import Allowed
from .branching import Kinks, damage_by_branches
from .frames import counts_of_frames, worst_damage
from .relaxation import element_scores, reach_of_units
from .structure import KnownHead, weight_and_bias

_VARIANCE = 1e-5  # that `statistics_pool` adds
_TINY = 1e-9
# The smallest `a` and the smallest `w` that are tried, in units of the medians of the deviations
# and of `|v|`. They cost a price whatever the budget is, so that the best choice grows with it.
_SMALLEST = ((0.0, 0.0), (0.5, 0.15), (0.5, 0.4), (0.5, 1.0))
# The smallest `a` of the closer intervals.
_REFINED = 0.5
# Values of all elements of the forms that are bounded together, which limits the memory.
_VALUES = 2**21
# What a margin must exceed its bound by, so that the allowance for rounding does not decide.
_ROUNDING = 1e-4
# Bounds of branches that are computed for one class of an utterance.
_BRANCHES = 256


@dataclasses.dataclass(frozen=True, eq=False)
class MLPBound:
    """The layers of a head `mlp` in float64.

    With the activations `h` of the frames, the deviation `s_i` of unit `i` is convex in `h_i`.
    Where a form falls with the deviation, its linear part alone bounds the damage. Where it rises,
    `s_i(h + d) <= (s_i(h + d)^2 + a^2) / (2 a)` for every `a > 0`, and the variance is at most the
    mean of `(h_ti + d_ti - m_i)^2` about the clean mean `m_i`, which is a sum over the frames.

    In the hidden layer, with pre-activations `v` and their changes `e`, ReLU adds nothing to its
    tangent where a margin falls with the unit. Where it rises by `c`, it adds
    `c (|e| - |v|)_+ <= c (e^2 / (4 w) + w - |v|)` for every `w >= |v|`. The squares of all units
    together are at most a largest eigenvalue times the squared change of means and deviations. A
    chord over the interval that a unit can reach is the alternative; it is better for few changes.

    A first interval follows from norms. It is three to four times too wide, so where the bounds
    leave an utterance open, the pre-activations are bounded like margins, each by itself. Few units
    then reach their kinks, and their chords are short.
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
        if allowed.most_per_frame == 0:
            return torch.zeros_like(self.offset)
        radius = allowed.radius / self.head.scale
        reach = self._reach_of_hidden(radius, allowed, self._change_of_pooled(radius, allowed))
        bounds = [
            self._damage(_Pooled.of(self, allowed, deviation), reach, distance)
            for deviation, distance in _SMALLEST
        ]
        chords = self._damage_by_chords(_Pooled.of(self, allowed, 0.0), reach, reach)
        found = torch.stack([*bounds, chords]).amin(0)
        return self._refined(allowed, reach, found)

    def _refined(
        self, allowed: Allowed, reach: Float[Tensor, "G"], found: Float[Tensor, "C"]
    ) -> Float[Tensor, "C"]:
        """The same bound with chords over closer intervals, where that can decide."""
        clean = self.logits(allowed.x[None])[0]
        margins = clean[allowed.label] - clean - _ROUNDING
        margins[allowed.label] = torch.inf
        pooled = _Pooled.of(self, allowed, _REFINED)
        v = self.hidden @ pooled.clean + self.hidden_bias
        coefficients = self.out - self.out[allowed.label]
        tangent = pooled.rise((coefficients * (v > 0)) @ self.hidden, torch.zeros_like(found))
        # The tangent alone rarely exceeds the bound with chords, so above the margin none decides.
        if bool((found < margins).all()) or bool((tangent >= margins).any()):
            return found
        toward = torch.where(v > 0, -1.0, 1.0)[:, None] * self.hidden
        to_kink, away = reach.clone(), reach.clone()
        crossing = (coefficients > 0).any(0) & (reach > v.abs())
        for interval, direction in ((to_kink, toward), (away, -toward)):
            units = (crossing & (to_kink > v.abs())).nonzero()[:, 0]
            if len(units):
                closer = pooled.rises(direction[units], coarse=True)
                interval[units] = torch.minimum(interval[units], closer)
        found = torch.minimum(found, self._damage_by_chords(pooled, to_kink, away))
        for rival in (found - margins).argsort(descending=True).tolist():
            if bool(found[rival] < margins[rival]):
                break
            row = coefficients[rival]

            def damage(slopes: Float[Tensor, "N G"], row: Float[Tensor, "G"] = row) -> Tensor:
                return pooled.rises(slopes @ toward + (row * (v > 0)) @ self.hidden)

            kinks = Kinks(row[None], v.abs(), to_kink, away)
            found[rival] = damage_by_branches(kinks, damage, float(margins[rival]), _BRANCHES)
            if bool(found[rival] >= margins[rival]):
                break  # the utterance stays open
        return found

    def _damage(
        self, pooled: _Pooled, reach: Float[Tensor, "G"], smallest: float
    ) -> Float[Tensor, "C"]:
        """The bound with squares for the kinks of the hidden layer."""
        v = self.hidden @ pooled.clean + self.hidden_bias
        coefficients = self.out - self.out[pooled.allowed.label]
        rising = coefficients.clamp(min=0.0)
        nearest = smallest * float(v.abs().median()) + _TINY
        distance = torch.where(reach > 2 * v.abs(), v.abs().clamp(min=nearest), v.abs())
        # Within a reach below `2 |v|` the square that touches its end is smaller.
        within = (reach - v.abs()).clamp(min=0.0) / reach.clamp(min=_TINY).square()
        curved = torch.where(reach > 2 * v.abs(), 1 / (4 * distance.clamp(min=_TINY)), within)
        weighted = (rising * curved).sqrt()[:, :, None] * self.hidden
        square = torch.linalg.matrix_norm(weighted, 2).square()
        tangent = (coefficients * (v > 0)) @ self.hidden
        return rising @ (distance - v.abs()) + pooled.rise(tangent, square)

    def _damage_by_chords(
        self, pooled: _Pooled, to_kink: Float[Tensor, "G"], away: Float[Tensor, "G"]
    ) -> Float[Tensor, "C"]:
        """The bound with chords for the kinks.

        A unit changes by at most `to_kink` in the direction of its kink, and by `away` otherwise.
        """
        v = self.hidden @ pooled.clean + self.hidden_bias
        coefficients = self.out - self.out[pooled.allowed.label]
        kinks = Kinks(coefficients, v.abs(), to_kink, away)
        slopes, constants = kinks.lines(torch.zeros_like(coefficients, dtype=torch.long))
        toward = torch.where(v > 0, -1.0, 1.0)
        forms = (slopes * toward + coefficients * (v > 0)) @ self.hidden
        return constants + pooled.rise(forms, torch.zeros_like(self.offset))

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


@dataclasses.dataclass(frozen=True, eq=False)
class _Pooled:
    """Means and deviations of the activations of an utterance, and how far forms of them move.

    `about` is the `a` of each unit.
    """

    weight: Float[Tensor, "H D"]
    h: Float[Tensor, "T H"]
    radius: Float[Tensor, "T D"]
    allowed: Allowed
    mean: Float[Tensor, "H"]
    deviation: Float[Tensor, "H"]
    about: Float[Tensor, "H"]

    @classmethod
    def of(cls, bound: MLPBound, allowed: Allowed, smallest: float) -> _Pooled:
        h = bound.head.standardised(allowed.x) @ bound.weight.T + bound.bias
        active = h.relu()
        mean, deviation = active.mean(0), _deviation(active[None])[0]
        about = deviation.clamp(min=smallest * float(deviation.median()))
        radius = allowed.radius / bound.head.scale
        return cls(bound.weight, h, radius, allowed, mean, deviation, about)

    @property
    def clean(self) -> Float[Tensor, "P"]:
        return torch.cat([self.mean, self.deviation])

    def rise(
        self,
        forms: Float[Tensor, "J P"],
        square: Float[Tensor, "J"],
        counts: list[int] | None = None,
    ) -> Float[Tensor, "J"]:
        """How much `forms . d + square ||d||^2` is at most, for the change `d` of all of them.

        For each unit `d(mean)^2 + d(deviation)^2 <= ||dh_i||^2 / T`, because the deviation changes
        by at most that of `dh_i`.
        """
        frames = len(self.h)
        by_mean, by_deviation = forms.chunk(2, dim=1)
        upward = by_deviation.clamp(min=0.0)
        price = upward @ ((self.about - self.deviation).square() / (2 * self.about))
        slope = upward / self.about + by_deviation.clamp(max=0.0) / self.deviation
        linear = by_mean[:, None, :] + slope[:, None, :] * (self.h.relu() - self.mean)
        squares = (upward / (2 * self.about) + square[:, None]) / frames
        parts = [
            element_scores(
                self.weight, self.h, -linear / frames, self.radius, count, squares=squares
            )
            for count in counts or counts_of_frames(self.allowed)
        ]
        return price + worst_damage(parts, self.allowed)

    def rises(self, forms: Float[Tensor, "J P"], *, coarse: bool = False) -> Float[Tensor, "J"]:
        """How much `forms . d` is at most; coarse bounds are a few per cent larger and faster."""
        counts = counts_of_frames(self.allowed)
        if coarse:
            counts = sorted({*counts[1::2], counts[-1]})
        size = max(1, _VALUES // self.radius.numel())
        found = [
            self.rise(part, part.new_zeros(len(part)), counts) for part in torch.split(forms, size)
        ]
        return torch.cat(found)


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
