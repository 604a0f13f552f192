"""A mask source from the attack side: a support that grows greedily."""

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


@register("explainer", "greedy-support")
@dataclass(frozen=True, kw_only=True)
class GreedySupport(BaseExplainer):
    """A support grown in rounds: each adds the elements of largest `|gradient| * scale`.

    The elements that are in already stand at the bound when the next gradient is taken. Earlier
    rounds rank higher; within a round the larger gradient does; what was never chosen comes last,
    by its last gradient.

    Args:
        rounds: gradients.
        share: of the valid elements that all rounds together choose.
        epsilon: bound of the chosen elements, in units of scale.
        output: what the support lowers; the margin, unlike other explainers.
    """

    kind: ClassVar[MapKind] = "attribution"

    output: Output = "margin"
    rounds: int = 10
    share: float = 0.05
    epsilon: float = 0.5

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check(rounds=(self.rounds, 1), share=(self.share, 0.0), epsilon=(self.epsilon, 0.0))

    def attribute(self, request: Request) -> tuple[Float[Tensor, "B T D"], None]:
        clean, scale = request.batch.x, request.victim.scale
        valid = request.batch.valid[:, :, None].expand(clean.shape)
        elements = valid.flatten(1).sum(1)
        each = (elements * self.share / self.rounds).long().clamp(min=1)
        free = valid.flatten(1).clone()
        delta, saliency = torch.zeros_like(clean), torch.zeros_like(clean)
        for left in range(self.rounds, 0, -1):
            gradient = request.gradient(clean + delta)
            gain = (gradient.abs() * scale).flatten(1)
            chosen = topk_support(gain, each, free)
            free &= ~chosen
            support = chosen.view(clean.shape)
            # A gain over the largest one lies between 0 and 1, so rounds do not overlap.
            rank = left + 0.5 * gain / gain.amax(1, keepdim=True).clamp(min=1e-30)
            saliency = torch.where(support, torch.sign(gradient) * rank.view(clean.shape), saliency)
            delta = torch.where(support, -self.epsilon * scale * torch.sign(gradient), delta)
        rest = 0.5 * gain / gain.amax(1, keepdim=True).clamp(min=1e-30)
        rest = torch.sign(gradient) * rest.view(clean.shape)
        return torch.where(free.view(clean.shape), rest, saliency), None
