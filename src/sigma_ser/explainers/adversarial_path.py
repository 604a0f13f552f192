"""A mask source from the attack side: where a dense attack goes."""

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

    Args:
        steps: gradients on the way.
        epsilon: radius of the dense ball, in units of scale.
        output: what the attack lowers; the margin, unlike other explainers.
    """

    kind: ClassVar[MapKind] = "gradient"

    output: Output = "margin"
    steps: int = 10
    epsilon: float = 0.5

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check(steps=(self.steps, 1), epsilon=(self.epsilon, 0.0))

    def attribute(self, request: Request) -> tuple[Float[Tensor, "B T D"], None]:
        clean = request.batch.x
        bound = self.epsilon * request.victim.scale
        x, total = clean, torch.zeros_like(clean)
        for _ in range(self.steps):
            gradient = request.gradient(x)
            total += gradient.abs()
            moved = x - clean - 2 / self.steps * bound * torch.sign(gradient)
            x = clean + torch.minimum(torch.maximum(moved, -bound), bound)
        return total / self.steps, None
