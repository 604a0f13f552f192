"""RISE: random masks over time and channel groups, weighted by the output they leave."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Generator, Tensor
from torch.nn import functional

from sigma_ser.core.registry import register

from .base import BaseExplainer
from .request import Request


@register("explainer", "rise")
@dataclass(frozen=True, kw_only=True)
class RISE(BaseExplainer):
    """`cov(f_y, m) / var(m)` over random masks `m` (Petsiuk, Das, Saenko 2018, section 3).

    Masks are coarse along time, shifted and interpolated as in the paper; channels have no spatial
    order, so their groups are independent. The paper's mean of `f_y m` is centred here, because
    logits are not probabilities and a constant offset would raise the saliency of all elements.

    Args:
        samples: number of masks for each utterance, at least 2.
        frames: number of frames of a cell of the coarse mask, at least 1.
        groups: number of groups of neighbouring channels, at least 1.
        keep: probability that a cell is kept, in (0, 1).
    """

    samples: int = 256
    frames: int = 5
    groups: int = 8
    keep: float = 0.5

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check(samples=(self.samples, 2), frames=(self.frames, 1), groups=(self.groups, 1))
        self.check(keep=(self.keep, 1e-6), **{"1 - keep": (1 - self.keep, 1e-6)})

    def attribute(self, request: Request) -> tuple[Float[Tensor, "B T D"], None]:
        """`samples` forward passes for each utterance."""
        x, noise = request.batch.x, request.noise()
        shape = (len(x), *x.shape[1:])
        total = torch.zeros(len(x), dtype=torch.float64, device=x.device)
        of_mask, of_square, of_both = (x.new_zeros(shape, dtype=torch.float64) for _ in range(3))
        for group, count in request.blocks(self.samples):
            masks = torch.zeros(count, len(group), *x.shape[1:], dtype=x.dtype)
            source = noise.select(group.tolist())
            for row, (length, rng) in enumerate(
                zip(source.lengths, source.generators, strict=True)
            ):
                for draw in range(count):
                    masks[draw, row, :length] = self._mask(length, x.shape[2], rng)
            m = masks.to(x.device)
            points = torch.lerp(request.baseline[group], x[group], m)
            scores = request.values(points.flatten(0, 1), group.repeat(count))
            scores, m = scores.double().view(count, len(group)), m.double()
            total[group] += scores.sum(0)
            of_mask[group] += m.sum(0)
            of_square[group] += (m**2).sum(0)
            of_both[group] += (m * scores[:, :, None, None]).sum(0)
        mean = of_mask / self.samples
        covariance = of_both / self.samples - mean * (total / self.samples)[:, None, None]
        variance = of_square / self.samples - mean**2
        # Padding and cells that every mask keeps have no variance and no saliency.
        flat = variance <= 1e-12
        return (covariance / variance.masked_fill(flat, 1.0)).masked_fill(flat, 0.0), None

    def _mask(self, length: int, channels: int, rng: Generator) -> Float[Tensor, "T D"]:
        groups = min(self.groups, channels)
        cells = math.ceil(length / self.frames) + 1
        coarse = torch.rand(groups, cells, generator=rng, dtype=torch.float32)
        coarse = (coarse < self.keep).float()
        fine = functional.interpolate(
            coarse[None], size=cells * self.frames, mode="linear", align_corners=False
        )[0]
        shift = int(torch.randint(self.frames, (), generator=rng))
        width = math.ceil(channels / groups)
        return fine[:, shift : shift + length].repeat_interleave(width, 0)[:channels].T
