"""The bound of the head `cnn`: two convolutions over time with ReLU, mean, linear."""

from __future__ import annotations

import dataclasses
import math

import torch
from jaxtyping import Float
from torch import Tensor

from sigma_ser.victims.heads import CNN

from .allowed import Allowed
from .sharing import worst_choice
from .structure import KnownHead, weight_and_bias
from .windows import TwoConvolutions, convolved

# Numbers of elements of a window at which bounds are computed, in units of their mean.
_SHARES = (1.0, 2.0, 4.0)


@dataclasses.dataclass(frozen=True, eq=False)
class CNNBound:
    """The layers of a head `cnn` in float64; arrays are `(channels, frames)`, as convolutions are.

    The windows of the second convolution choose the elements of a budget; see the module
    `windows`. Whole frames and channels are bounded as if all of them lay in every window.
    """

    head: KnownHead
    first: Float[Tensor, "H D K"]
    first_bias: Float[Tensor, "H"]
    second: Float[Tensor, "G H K"]
    second_bias: Float[Tensor, "G"]
    out: Float[Tensor, "C G"]
    offset: Float[Tensor, "C"]

    @classmethod
    def of(cls, head: KnownHead) -> CNNBound:
        """Read the layers of a head."""
        assert isinstance(head.module, CNN)
        layers = (*head.module.convolutions, head.module.classify[1])
        first, second, third = (weight_and_bias(layer) for layer in layers)
        return cls(head, *first, *second, *third)

    def logits(self, x: Float[Tensor, "N T D"]) -> Float[Tensor, "N C"]:
        """Logits of utterances without padding."""
        first = convolved(self.head.standardised(x).transpose(1, 2), self.first)
        h = (first + self.first_bias[:, None]).relu()
        h = (convolved(h, self.second) + self.second_bias[:, None]).relu()
        return h.mean(2) @ self.out.T + self.offset

    def damage(self, allowed: Allowed) -> Float[Tensor, "C"]:
        """How much `z_y - z_j` can fall at most, for each class."""
        elements = int(allowed.largest((allowed.radius > 0).double()[None])[0])
        if elements == 0:
            return torch.zeros_like(self.offset)
        x = self.head.standardised(allowed.x).T[None]
        h1 = convolved(x, self.first)[0] + self.first_bias[:, None]
        h2 = convolved(h1.relu()[None], self.second)[0] + self.second_bias[:, None]
        gain = (self.out - self.out[allowed.label]) / len(allowed.x)
        radius = allowed.radius / self.head.scale
        layers = TwoConvolutions(self.first, self.second, h1, h2, gain, radius)
        most = min(elements, layers.capacity)
        if allowed.budget.granularity != "element":
            _, scores = layers.damage_of_windows([most])
            return allowed.largest(scores)
        mean = layers.width * elements / len(allowed.x)
        counts = sorted({min(most, math.ceil(mean * share)) for share in _SHARES} | {most})
        windows, scores = layers.damage_of_windows(counts)
        levels = list(zip(counts, windows, strict=True))
        return torch.minimum(worst_choice(levels, layers.shares, elements), allowed.largest(scores))
