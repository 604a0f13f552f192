"""Integrated Gradients in chunks of bounded memory."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from sigma_ser.core.registry import register

from .base import BaseExplainer, gap
from .request import Request


@register("explainer", "integrated-gradients")
@dataclass(frozen=True, kw_only=True)
class IntegratedGradients(BaseExplainer):
    """`(x - x0) * integral over the path of d f_y / d x` (Sundararajan, Taly, Yan 2017, eq. 1).

    The path is the straight line from the baseline `x0`, the victim's channel means, to `x`.

    Args:
        steps: number of points of the Gauss-Legendre quadrature, at least 1.
    """

    steps: int = 32

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check(steps=(self.steps, 1))

    def attribute(self, request: Request) -> tuple[Float[Tensor, "B T D"], Float[Tensor, "B"]]:
        """`steps` gradients for each utterance, and two forward passes for the completeness gap."""
        nodes, weights = np.polynomial.legendre.leggauss(self.steps)
        x, baseline = request.batch.x, request.baseline
        # The nodes lie in [-1, 1], the path parameter in [0, 1].
        shares, parts = x.new_tensor((1 + nodes) / 2), (weights / 2).tolist()
        saliency = torch.zeros_like(x)
        for group in torch.split(request.all_utterances(), request.rows):
            here = slice(int(group[0]), int(group[-1]) + 1)
            at_once = min(request.rows // len(group), self.steps)
            points = x.new_empty(at_once, *x[here].shape)
            mean: Tensor | None = None
            for first in range(0, self.steps, at_once):
                share = shares[first : first + at_once]
                path = points[: len(share)]
                torch.lerp(baseline[here], x[here], share[:, None, None, None], out=path)
                gradients = request.gradient(path.flatten(0, 1), group.repeat(len(share)))
                for gradient, weight in zip(
                    torch.split(gradients, len(group)), parts[first:], strict=False
                ):
                    # In the memory layout of the gradient, which is transposed for convolutions.
                    mean = torch.zeros_like(gradient) if mean is None else mean
                    mean.add_(gradient, alpha=weight)
            assert mean is not None
            saliency[here] = mean.mul_(x[here] - baseline[here])
        return saliency, gap(request, saliency, baseline)
