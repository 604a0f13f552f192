"""Saliency along the path of a dense attack."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from sigma_ser.core.contracts import MapKind
from sigma_ser.core.registry import register

from .base import BaseExplainer
from .request import Output, Request


@register("explainer", "adversarial-path")
@dataclass(frozen=True, kw_only=True)
class AdversarialPath(BaseExplainer):
    """Mean `|gradient|` along the path of a dense sign-step attack (PGD without a mask).

    The map is `1/n sum_t |g_t|` with `x_{t+1} = clip(x_t - 2/n b sign(g_t))`, where
    `b = epsilon * scale` is the radius of the box around `x` that `clip` projects onto.

    Args:
        steps: number of gradients `n`, at least 1.
        epsilon: radius of the box, in units of scale, at least 0.
        output: the output that the attack lowers; `margin` by default.
    """

    kind: ClassVar[MapKind] = "gradient"

    output: Output = "margin"
    steps: int = 10
    epsilon: float = 0.5

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check(steps=(self.steps, 1), epsilon=(self.epsilon, 0.0))

    def attribute(self, request: Request) -> tuple[Float[Tensor, "B T D"], None]:
        """`steps` gradients for each utterance."""
        clean = request.batch.x
        bound = self.epsilon * request.victim.scale
        x, total = clean, torch.zeros_like(clean)
        for _ in range(self.steps):
            gradient = request.gradient(x)
            total += gradient.abs()
            moved = x - clean - 2 / self.steps * bound * torch.sign(gradient)
            x = clean + torch.minimum(torch.maximum(moved, -bound), bound)
        return total / self.steps, None
