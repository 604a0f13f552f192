"""The bound of the head `cnn`: two convolutions over time with ReLU, mean, linear."""

from __future__ import annotations

import dataclasses

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import conv1d, conv_transpose1d, pad

from sigma_ser.victims.heads import CNN

from .allowed import Allowed
from .relaxation import beyond_kink
from .structure import KnownHead, weight_and_bias


@dataclasses.dataclass(frozen=True, eq=False)
class CNNBound:
    """The layers of a head `cnn` in float64; arrays are `(channels, frames)`, as convolutions are.

    Each ReLU is bounded as in the module `relaxation`. The reach of a unit is what all elements of
    the budget can do in its receptive field of 5 or 9 frames: the budget is not shared out, since
    receptive fields overlap. So the bound is of use at small budgets.
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
        first = self._convolved(self.head.standardised(x).transpose(1, 2), self.first)
        h = (first + self.first_bias[:, None]).relu()
        h = (self._convolved(h, self.second) + self.second_bias[:, None]).relu()
        return h.mean(2) @ self.out.T + self.offset

    def damage(self, allowed: Allowed) -> Float[Tensor, "C"]:
        """How much `z_y - z_j` can fall at most, for each class."""
        x = self.head.standardised(allowed.x).T
        radius = (allowed.radius / self.head.scale).T
        elements = int(allowed.largest((allowed.radius > 0).double()[None])[0])
        h1 = self._convolved(x[None], self.first)[0] + self.first_bias[:, None]
        h2 = self._convolved(h1.relu()[None], self.second)[0] + self.second_bias[:, None]
        reach1 = self._reach_of_first(radius, elements)
        beyond1 = beyond_kink(h1, reach1)
        # A unit that stays inactive does not change, and one that may become active changes by less
        # than its pre-activation.
        follows = torch.where(h1 > 0, 1.0, beyond1)
        reach2 = self._reach_of_second(radius, follows * reach1, elements)
        gain = (self.out - self.out[allowed.label])[:, :, None] / x.shape[1]
        kink = gain.clamp(min=0.0) * beyond_kink(h2, reach2)
        toward1, toward2 = (torch.where(h > 0, -1.0, 1.0) for h in (h1, h2))
        slope2 = gain * (h2 > 0) + 0.5 * toward2 * kink
        slope1 = self._back(slope2, self.second)
        bent1 = 0.5 * slope1.clamp(min=0.0) * beyond1
        spread1 = bent1 + self._back(0.5 * kink, self.second.abs()) * follows
        linear = self._back(slope1 * (h1 > 0) + toward1 * bent1, self.first)
        spread = self._back(spread1, self.first.abs())
        scores = (linear.abs() + spread) * radius
        return allowed.largest(scores.transpose(1, 2))

    def _reach_of_first(self, radius: Float[Tensor, "D T"], elements: int) -> Float[Tensor, "H T"]:
        """The largest change of the pre-activations of the first layer."""
        everything = self._convolved(radius[None], self.first.abs())[0]
        single = (self.first.abs() * radius.amax(1)[:, None]).flatten(1)
        return torch.minimum(everything, _top(single, elements)[:, None])

    def _reach_of_second(
        self, radius: Float[Tensor, "D T"], change: Float[Tensor, "H T"], elements: int
    ) -> Float[Tensor, "G T"]:
        """The same for the second layer, given the largest changes of the first activations."""
        everything = self._convolved(change[None], self.second.abs())[0]
        # Influence of one element: the convolution of both kernels, without signs.
        width = self.first.shape[2]
        flipped = self.first.abs().flip(2).transpose(0, 1)
        both = conv1d(pad(flipped, (width - 1, width - 1)), self.second.abs())
        single = (both.transpose(0, 1) * radius.amax(1)[:, None]).flatten(1)
        return torch.minimum(everything, _top(single, elements)[:, None])

    def _convolved(
        self, x: Float[Tensor, "N A T"], weight: Float[Tensor, "B A K"]
    ) -> Float[Tensor, "N B T"]:
        return conv1d(x, weight, padding=weight.shape[2] // 2)

    def _back(
        self, gradient: Float[Tensor, "J B T"], weight: Float[Tensor, "B A K"]
    ) -> Float[Tensor, "J A T"]:
        """The gradient of the input of a convolution."""
        return conv_transpose1d(gradient, weight, padding=weight.shape[2] // 2)


def _top(values: Float[Tensor, "H N"], k: int) -> Float[Tensor, "H"]:
    return values.topk(min(k, values.shape[1]), dim=1).values.sum(1)
