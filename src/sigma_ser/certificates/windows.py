"""Bounds of the damage that changes do through two convolutions with ReLU, window by window.

A unit of the second convolution at frame `t` sees the `2K - 1` frames around `t`, its *window*.
With at most `n` changed elements in a window, and kernels `W1` and `W2`:

- The activation of a unit of the first layer changes by `s e + b` with `e = W1 delta` and the slope
  `s` of the clean utterance. The part `b >= 0` beyond the kink is convex in `e`, and so at most the
  sum over the changed elements of `(u_d - |h| / n)_+`, where `u_d` is what the element `d` adds in
  the direction of the kink.
- The pre-activation of the second layer moves toward its kink by at most `A delta + (W2)_+ b`,
  where `A = W2 s W1` keeps the signs. That is a sum over the elements as well, and its part beyond
  the kink is bounded in the same manner.

The damage is a linear part, which is the gradient of the clean margin, and the parts beyond the
kinks, each of which belongs to one window. An element lies in up to `2K - 1` windows. Each of them
counts a share of it, larger in the middle of the window, and has the same share of its linear part.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import conv1d, conv_transpose1d, pad

# Numbers of elements in one batch of matrices.
_AT_ONCE = 4_000_000


def convolved(x: Float[Tensor, "N A T"], weight: Float[Tensor, "B A K"]) -> Float[Tensor, "N B T"]:
    """A convolution over time that keeps the number of frames."""
    return conv1d(x, weight, padding=weight.shape[2] // 2)


def gradient_of_input(
    gradient: Float[Tensor, "J B T"], weight: Float[Tensor, "B A K"]
) -> Float[Tensor, "J A T"]:
    """The gradient of the input of such a convolution."""
    return conv_transpose1d(gradient, weight, padding=weight.shape[2] // 2)


@dataclass(frozen=True, eq=False)
class TwoConvolutions:
    """Kernels and clean pre-activations, and the linear damage of `J` margins, all float64.

    Attributes:
        first, second: kernels of the two convolutions.
        h1, h2: pre-activations `(channels, frames)`.
        gain: how much each margin falls with each activation of the second layer, in each frame.
        radius: largest change of each input of the first layer.
    """

    first: Float[Tensor, "H D K"]
    second: Float[Tensor, "G H K"]
    h1: Float[Tensor, "H T"]
    h2: Float[Tensor, "G T"]
    gain: Float[Tensor, "J G"]
    radius: Float[Tensor, "T D"]

    @property
    def width(self) -> int:
        """Number of frames of a window, `2K - 1`."""
        return 2 * self.first.shape[2] - 1

    @property
    def capacity(self) -> int:
        """Largest number of elements of one window that may change."""
        return int(self.windows_of((self.radius > 0).double()).sum((1, 2)).max())

    @cached_property
    def toward1(self) -> Float[Tensor, "H T"]:
        """The direction of the kink of each unit of the first layer."""
        return torch.where(self.h1 > 0, -1.0, 1.0).double()

    @cached_property
    def toward2(self) -> Float[Tensor, "G T"]:
        """The direction of the kink of each unit of the second layer."""
        return torch.where(self.h2 > 0, -1.0, 1.0).double()

    @cached_property
    def slope1(self) -> Float[Tensor, "J H T"]:
        """How much each margin falls with each activation of the first layer."""
        return gradient_of_input(self.gain[:, :, None] * (self.h2 > 0), self.second)

    @cached_property
    def linear(self) -> Float[Tensor, "J T D"]:
        """How much each margin falls with each element, to first order."""
        back = gradient_of_input(self.slope1 * (self.h1 > 0), self.first)
        return back.transpose(1, 2)

    def damage_of_windows(
        self, counts: list[int]
    ) -> tuple[list[Float[Tensor, "J T W D"]], Float[Tensor, "J T D"]]:
        """Bound the damage of each window by the elements that change in it.

        Args:
            counts: numbers of elements at which bounds are computed; the last one is the largest
                number of elements of a window that may change.

        Returns:
            For each count the score of each element in each window. While at most that number of
            elements of a window change, their scores add up to a bound of its damage. Also the
            scores of single elements without windows: their sum bounds the damage of any change.
        """
        margins, frames = len(self.gain), self.h1.shape[1]
        half = self.width // 2
        whole = self.gain.new_zeros(2, margins, frames + 2 * half, self.first.shape[1])
        shared = self._shared_linear()
        radius = self.windows_of(self.radius)
        kinks = [_Kinks(self, count) for count in counts]
        found = [torch.zeros_like(shared) for _ in counts]
        size = max(1, _AT_ONCE // (len(self.h2) * self.width * self.first.shape[1]))
        for start in range(0, frames, size):
            here = torch.arange(start, min(start + size, frames))
            effect = self._effect(here) * radius[here, None]
            for kink, scores in zip(kinks, found, strict=True):
                up, down = kink.scores(here, effect)
                scores[:, here] = torch.maximum(shared[:, here] + up, down - shared[:, here])
            for at, frame in enumerate(here.tolist()):
                # Those of the last, and largest, count hold for every change.
                whole[0, :, frame : frame + self.width] += up[:, at]
                whole[1, :, frame : frame + self.width] += down[:, at]
        up, down = whole[:, :, half : half + frames]
        linear = self.linear * self.radius
        return found, torch.maximum(linear + up, down - linear)

    @property
    def shares(self) -> Float[Tensor, "W"]:
        """The part of an element that each of its windows counts, by its place in the window.

        Proportional to the number of frames of the first layer through which it has an effect.
        """
        places = torch.arange(self.width) - self.width // 2
        share = (self.first.shape[2] - places.abs()).double()
        return share / share.sum()

    def _shared_linear(self) -> Float[Tensor, "J T W D"]:
        """The linear part of each element in the windows that contain it, whose sum it is."""
        half, frames = self.width // 2, self.h1.shape[1]
        # Frames at the ends lie in fewer windows.
        counted = conv1d(self.gain.new_ones(1, 1, frames), self.shares[None, None], padding=half)
        return self.windows_of(self.linear * self.radius / counted[0].T) * self.shares[:, None]

    def windows_of(self, values: Float[Tensor, "*J T D"]) -> Float[Tensor, "*J T W D"]:
        """The frames of each window; zero outside the utterance."""
        half = self.width // 2
        return pad(values, (0, 0, half, half)).unfold(-2, self.width, 1).transpose(-1, -2)

    def near(self, values: Float[Tensor, "H T"]) -> Float[Tensor, "T K H"]:
        """The `K` frames of the first layer that each frame of the second sees; else zero."""
        width = self.second.shape[2]
        return pad(values, (width // 2, width // 2)).unfold(1, width, 1).permute(1, 2, 0)

    def composed(self, coefficients: Float[Tensor, "N K H"]) -> Float[Tensor, "N W D"]:
        """`sum_h c_oh W1_h(e)` for coefficients of the `K` frames of the first layer."""
        hidden, channels, width = self.first.shape
        weight = self.first.permute(0, 2, 1).reshape(hidden, width * channels)
        found = weight.new_zeros(len(coefficients), self.width, channels)
        for offset in range(width):
            part = coefficients[:, offset] @ weight
            found[:, offset : offset + width] += part.view(-1, width, channels)
        return found

    def _effect(self, here: Int[Tensor, "N"]) -> Float[Tensor, "N G W D"]:
        """`A`: the change of each pre-activation of the second layer, to first order."""
        active = self.near((self.h1 > 0).double())[here]
        coefficients = self.second.transpose(1, 2) * active[:, None]
        return self.composed(coefficients.flatten(0, 1)).view(
            *coefficients.shape[:2], self.width, -1
        )


@dataclass(frozen=True, eq=False)
class _Kinks:
    """The parts beyond the kinks while at most `most` elements of a window change."""

    layers: TwoConvolutions
    most: int

    def scores(
        self, here: Int[Tensor, "N"], effect: Float[Tensor, "N G W D"]
    ) -> tuple[Float[Tensor, "J N W D"], ...]:
        """Damage beyond the kinks of each element, for its largest and its smallest value.

        Args:
            here: frames.
            effect: `A` times the radius.
        """
        layers, half = self.layers, self.layers.second.shape[2] // 2
        toward = layers.toward2[:, here, None, None]
        linear = toward * effect.transpose(0, 1)
        carried = (toward * layers.second.transpose(1, 2)[:, None]).clamp(min=0.0)
        distance = layers.h2[:, here, None, None].abs() / self.most
        # A unit of the first layer counts once for the clean slopes: in the window around it.
        own = layers.slope1.clamp(min=0.0).transpose(1, 2)[:, here]
        direct = pad(own[:, :, None], (0, 0, half, half))
        found = []
        for sign in (1.0, -1.0):
            moved = sign * linear + self._beyond_first(here, carried, sign)
            beyond = (moved - distance).clamp_(min=0.0)
            kinks = torch.einsum("jg,gnwd->jnwd", layers.gain.clamp(min=0.0), beyond)
            found.append(kinks + self._beyond_first(here, direct, sign))
        return tuple(found)

    def _beyond_first(
        self, here: Int[Tensor, "N"], weight: Float[Tensor, "J N K H"], sign: float
    ) -> Float[Tensor, "J N W D"]:
        """The parts beyond the kinks of the first layer, in the windows of frames.

        By convexity `(sum_d u_d - |h|)_+ <= sum_d (u_d - |h| / n)_+` for `n` elements.
        """
        layers = self.layers
        _, channels, width = layers.first.shape
        half = width // 2
        kernel = layers.first.permute(0, 2, 1)
        radius = pad(layers.radius, (0, 0, width - 1, width - 1)).unfold(0, width, 1).mT
        distance, toward = (
            pad(one, (half, half)).T for one in (layers.h1.abs() / self.most, layers.toward1)
        )
        near = torch.arange(int(here[0]), int(here[-1]) + width)
        moved = (sign * toward[near])[:, :, None, None] * kernel * radius[near][:, None]
        beyond = (moved - distance[near][:, :, None, None]).clamp_(min=0.0).flatten(2)
        found = weight.new_zeros(*weight.shape[:2], layers.width, channels)
        for offset in range(width):
            part = torch.einsum(
                "jnh,nhe->jne", weight[:, :, offset], beyond[offset : offset + len(here)]
            )
            found[:, :, offset : offset + width] += part.view(*part.shape[:2], width, channels)
        return found
