"""Saliency as the order in which a greedy attack selects its support."""

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
    """A support that grows in rounds, each adding the elements of largest `|gradient| * scale`.

    Selected elements are at the bound when the next gradient is computed. Earlier rounds rank
    higher, and within a round larger gradients. Elements that are never selected rank last, by
    their gradient in the last round.

    Args:
        rounds: number of gradients, at least 1.
        share: share of the valid elements that all rounds together select, at least 0; every round
            selects at least one element.
        epsilon: bound of the selected elements, in units of scale, at least 0.
        output: the output that the support lowers; `margin` by default.
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
        """`rounds` gradients for each utterance."""
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
            # The gain relative to the largest one lies in [0, 1], so rounds do not overlap.
            rank = left + 0.5 * gain / gain.amax(1, keepdim=True).clamp(min=1e-30)
            saliency = torch.where(support, torch.sign(gradient) * rank.view(clean.shape), saliency)
            delta = torch.where(support, -self.epsilon * scale * torch.sign(gradient), delta)
        rest = 0.5 * gain / gain.amax(1, keepdim=True).clamp(min=1e-30)
        rest = torch.sign(gradient) * rest.view(clean.shape)
        return torch.where(free.view(clean.shape), rest, saliency), None
