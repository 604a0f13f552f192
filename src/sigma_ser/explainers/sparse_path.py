"""Saliency as the sum of gradients along the first steps of a sparse attack."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from sigma_ser.core.contracts import MapKind
from sigma_ser.core.registry import register
from sigma_ser.core.topk import topk_support

from .base import BaseExplainer
from .request import Output, Request


@register("explainer", "sparse-path")
@dataclass(frozen=True, kw_only=True)
class SparsePath(BaseExplainer):
    """The weighted sum of gradients along a short sparse attack.

    `G <- G + t g_t`, with `g_t` the gradient at the corner of the box whose support are the
    `share` elements of largest `|G| * scale`: the first steps of `dual-averaging`. The first
    gradient is that at the clean input; later ones contain the interaction of an element with
    those that have changed already.

    Args:
        steps: number of gradients, at least 1.
        share: share of the valid elements that is changed at each step, at least 0; at least one
            element is changed.
        epsilon: bound of the changed elements, in units of scale, at least 0.
        output: the output that the path lowers; `margin` by default.
    """

    kind: ClassVar[MapKind] = "gradient"

    output: Output = "margin"
    steps: int = 5
    share: float = 0.02
    epsilon: float = 0.5

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check(steps=(self.steps, 1), share=(self.share, 0.0), epsilon=(self.epsilon, 0.0))

    def attribute(self, request: Request) -> tuple[Float[Tensor, "B T D"], None]:
        """`steps` gradients for each utterance."""
        clean, scale = request.batch.x, request.victim.scale
        valid = request.batch.valid[:, :, None].expand(clean.shape).flatten(1)
        changed = (valid.sum(1) * self.share).long().clamp(min=1)
        total, delta = torch.zeros_like(clean), torch.zeros_like(clean)
        for step in range(1, self.steps + 1):
            total = total + step * request.gradient(clean + delta)
            support = topk_support((total.abs() * scale).flatten(1), changed, valid)
            corner = -self.epsilon * scale * torch.sign(total)
            delta = torch.where(support.view(clean.shape), corner, 0.0)
        return total, None
