"""KernelSHAP and LIME: the output as a function of which segments of frames are present.

All coalitions of segments are evaluated where `samples` allows it. Otherwise they are drawn as by
Captum, but from a generator of the utterance, since the global one is shared between threads.
"""

from __future__ import annotations

import abc
import math
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Generator, Tensor

from sigma_ser.core.registry import register

from .base import BaseExplainer, gap
from .request import Request

# Weight of the empty and the full coalition, whose kernel weights are infinite.
_CERTAIN = 1e6


@dataclass(frozen=True, kw_only=True)
class Surrogate(BaseExplainer):
    """Base class of models of the output as a function of which segments are present.

    Absent segments are replaced by channel means. The value of a segment is divided equally among
    its elements, so the sum of the map is the sum of the values.

    Args:
        samples: maximum number of coalitions of segments, at least 2. All `2^n` coalitions of `n`
            segments are evaluated if they are no more than this, and random ones otherwise; the
            values are reliable with several times as many samples as segments.
        frames: number of frames of a segment, at least 1; the last one may be shorter.
    """

    samples: int = 128
    frames: int = 5

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check(samples=(self.samples, 2), frames=(self.frames, 1))

    @abc.abstractmethod
    def drawn(self, segments: int, rng: Generator) -> Bool[Tensor, "N S"]:
        """Draw `samples` random coalitions."""

    @abc.abstractmethod
    def fitted(
        self,
        present: Bool[Tensor, "N S"],
        outputs: Float[Tensor, "N"],
        similarity: Float[Tensor, "N"],
        complete: bool,
    ) -> Float[Tensor, "S"]:
        """Compute the value of each segment.

        Args:
            present: which segments each coalition has.
            outputs: the explained output of each coalition.
            similarity: cosine between the features with and without the absent segments.
            complete: whether `present` holds every coalition once, in the order of `every`.
        """

    def segments(self, request: Request) -> Float[Tensor, "B T D"]:
        """Compute the map with at most `samples` forward passes for each utterance."""
        x = request.batch.x
        saliency = torch.zeros_like(x)
        for row, length in enumerate(request.batch.lengths.tolist()):
            owner = request.all_utterances()[row : row + 1]
            here, baseline = x[row, :length], request.baseline[row, :length]
            segment = torch.arange(length, device=x.device) // self.frames
            count = int(segment[-1]) + 1
            complete = count <= math.log2(self.samples)
            if complete:
                present = every(count)
            else:
                present = self.drawn(count, Generator().manual_seed(int(request.seeds[row])))
            outputs, similarity = [], []
            for some in torch.split(present.to(x.device), request.rows):
                points = torch.where(some[:, segment, None], here, baseline)
                outputs.append(request.values(points, owner.expand(len(some))).cpu())
                cosine = torch.cosine_similarity(points.flatten(1), here.flatten()[None])
                similarity.append(cosine.cpu())
            values = self.fitted(present, torch.cat(outputs), torch.cat(similarity), complete)
            size = segment.bincount()[segment] * x.shape[2]
            saliency[row, :length] = (values.to(x)[segment] / size)[:, None]
        return saliency


def every(segments: int) -> Bool[Tensor, "N S"]:
    """All `2^n` coalitions of `n` segments: segment `i` is present where bit `i` of the row is."""
    rows = torch.arange(2**segments)[:, None]
    return (rows >> torch.arange(segments)) % 2 == 1


def shapley_values(outputs: Float[Tensor, "N"]) -> Float[Tensor, "S"]:
    """Compute Shapley values from the outputs of all coalitions (Shapley 1953).

    `phi_i = sum over S without i of |S|! (n - |S| - 1)! / n! * (f(S and i) - f(S))`

    Args:
        outputs: `(2^n,)`, in the order of `every`.

    Returns:
        The value of each of the `n` players, float64.
    """
    outputs = outputs.double()
    players = len(outputs).bit_length() - 1
    members = every(players)
    size = members.sum(1)
    weight = torch.tensor(
        [1 / (players * math.comb(players - 1, others)) for others in range(players)],
        dtype=torch.float64,
    )
    values = torch.zeros(players, dtype=torch.float64)
    for player in range(players):
        without = (~members[:, player]).nonzero()[:, 0]
        gain = outputs[without + 2**player] - outputs[without]
        values[player] = (weight[size[without]] * gain).sum()
    return values


@register("explainer", "kernel-shap")
@dataclass(frozen=True, kw_only=True)
class KernelShap(Surrogate):
    """Shapley values of segments.

    They are exact where all coalitions are evaluated, and otherwise estimated by weighted
    regression (Lundberg & Lee 2017, theorem 2).
    """

    def attribute(self, request: Request) -> tuple[Float[Tensor, "B T D"], Float[Tensor, "B"]]:
        """At most `samples` forward passes, and two for the completeness gap."""
        saliency = self.segments(request)
        return saliency, gap(request, saliency, request.baseline)

    def drawn(self, segments: int, rng: Generator) -> Bool[Tensor, "N S"]:
        """The full and the empty coalition, and others of a size drawn by the Shapley kernel."""
        present = torch.zeros(self.samples, segments, dtype=torch.bool)
        present[0] = True
        number = torch.arange(segments, dtype=torch.float32)
        size_weight = (segments - 1) / (number * (segments - number))
        size_weight[0] = 0.0
        size_weight /= size_weight.sum()
        for coalition in present[2:]:
            size = int(torch.multinomial(size_weight, 1, replacement=True, generator=rng))
            order = torch.randn(segments, generator=rng, dtype=torch.float32)
            coalition[:] = order > torch.kthvalue(order, segments - size).values
        return present

    def fitted(
        self,
        present: Bool[Tensor, "N S"],
        outputs: Float[Tensor, "N"],
        similarity: Float[Tensor, "N"],
        complete: bool,
    ) -> Float[Tensor, "S"]:
        """Shapley values, or the coefficients of a regression of random coalitions."""
        from sklearn.linear_model import LinearRegression

        del similarity
        if complete:
            return shapley_values(outputs).float()
        sizes = present.sum(1)
        certain = (sizes == 0) | (sizes == present.shape[1])
        weight = torch.where(certain, _CERTAIN, 1.0).float()
        model = LinearRegression()
        model.fit(present.float().numpy(), outputs.numpy(), sample_weight=weight.numpy())
        return torch.from_numpy(model.coef_).float()


@register("explainer", "lime")
@dataclass(frozen=True, kw_only=True)
class Lime(Surrogate):
    """A sparse local linear model of segments (Ribeiro, Singh, Guestrin 2016, section 3).

    Coalitions are weighted by `exp(-d^2 / 2)`, where `d` is the cosine distance to the features.

    Args:
        alpha: weight of the L1 penalty, in units of the standard deviation of the output over the
            coalitions, at least 0. The map of `c f` is therefore `c` times the map of `f`.
    """

    alpha: float = 0.01

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check(alpha=(self.alpha, 0))

    def attribute(self, request: Request) -> tuple[Float[Tensor, "B T D"], None]:
        """At most `samples` forward passes; a penalised model is not complete."""
        return self.segments(request), None

    def drawn(self, segments: int, rng: Generator) -> Bool[Tensor, "N S"]:
        """Coalitions in which each segment is present with probability 1/2."""
        half = torch.full((self.samples, segments), 0.5, dtype=torch.float32)
        return torch.bernoulli(half, generator=rng).bool()

    def fitted(
        self,
        present: Bool[Tensor, "N S"],
        outputs: Float[Tensor, "N"],
        similarity: Float[Tensor, "N"],
        complete: bool,
    ) -> Float[Tensor, "S"]:
        """The coefficients of a Lasso of the standardised outputs, times their deviation."""
        from sklearn.linear_model import Lasso

        del complete
        if present.shape[1] == 1:
            return outputs[1:] - outputs[:1]  # with a single segment there is no model to fit
        y = outputs.double().numpy()
        weight = (-((1 - similarity.double()) ** 2) / 2).exp().numpy()
        centred = y - np.average(y, weights=weight)
        deviation = math.sqrt(np.average(centred**2, weights=weight))
        # A constant output differs between coalitions by the rounding of float32 only.
        if deviation <= np.finfo(np.float32).eps * np.abs(y).max():
            return torch.zeros(present.shape[1], dtype=torch.float32)
        # The solver draws a number that it does not use; it must not be a global one.
        model = Lasso(alpha=self.alpha, random_state=0)
        model.fit(present.double().numpy(), centred / deviation, sample_weight=weight)
        return torch.from_numpy(model.coef_ * deviation).float()
