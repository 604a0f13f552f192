"""Integrated Gradients, by Captum, in chunks that never exceed the memory asked for."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from sigma_ser.core.registry import register

from .base import BaseExplainer, gap
from .question import Question


@register("explainer", "integrated-gradients")
@dataclass(frozen=True, kw_only=True)
class IntegratedGradients(BaseExplainer):
    """`(x - x0) * mean over the path of d f_y / d x` (Sundararajan, Taly, Yan 2017, eq. 1).

    Args:
        steps: points of the Gauss-Legendre quadrature between the baseline, the victim's channel
            means, and the features.
    """

    steps: int = 32

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check(steps=(self.steps, 1))

    def attribute(self, question: Question) -> tuple[Float[Tensor, "B T D"], Float[Tensor, "B"]]:
        """`steps` gradients for each utterance, and two forward passes for the completeness."""
        from captum.attr import IntegratedGradients as Captum

        method = Captum(question.score)
        x, baseline = question.batch.x, question.baseline
        saliency = torch.zeros_like(x)
        # Captum never splits the batch itself, only the path.
        for group in torch.split(question.everyone(), question.rows):
            saliency[group] = method.attribute(
                x[group],
                baselines=baseline[group],
                additional_forward_args=(group,),
                n_steps=self.steps,
                internal_batch_size=question.rows,
            ).float()
        return saliency, gap(question, saliency, baseline)
