"""Explainers of a single gradient: of the logit, of the margin, and input times gradient."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from jaxtyping import Float
from torch import Tensor

from sigma_ser.core.contracts import MapKind
from sigma_ser.core.registry import register

from .base import BaseExplainer, gap
from .request import Output, Request


@register("explainer", "gradient")
@dataclass(frozen=True, kw_only=True)
class Gradient(BaseExplainer):
    """`d f_y / d x`, signed (Simonyan, Vedaldi, Zisserman 2014, section 3).

    It equals Captum's `Saliency(abs=False)`.
    """

    kind: ClassVar[MapKind] = "gradient"

    def attribute(self, request: Request) -> tuple[Float[Tensor, "B T D"], None]:
        """One forward and one backward pass for each utterance."""
        return request.gradient(request.batch.x), None


@register("explainer", "gradient-margin")
@dataclass(frozen=True, kw_only=True)
class GradientMargin(Gradient):
    """The gradient of the margin `f_y - max_{c != y} f_c`, which determines the decision."""

    output: Output = "margin"


@register("explainer", "input-x-gradient")
@dataclass(frozen=True, kw_only=True)
class InputXGradient(BaseExplainer):
    """`(x - mean) * d f_y / d x` (Shrikumar et al. 2016); complete on linear victims.

    The baseline is the victim's channel mean, so it equals Captum's `InputXGradient` on
    standardised features.
    """

    def attribute(self, request: Request) -> tuple[Float[Tensor, "B T D"], Float[Tensor, "B"]]:
        """One gradient, and two forward passes for the completeness gap."""
        x = request.batch.x
        saliency = (x - request.baseline) * request.gradient(x)
        return saliency, gap(request, saliency, request.baseline)
