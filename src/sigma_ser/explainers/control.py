"""The random control: a map that does not depend on the victim."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from jaxtyping import Float
from torch import Tensor

from sigma_ser.core.registry import register

from .base import BaseExplainer
from .request import Request


@register("explainer", "random")
@dataclass(frozen=True, kw_only=True)
class Random(BaseExplainer):
    """Standard normal noise, seeded for each utterance: the negative control of explainers."""

    control: ClassVar[bool] = True

    def attribute(self, request: Request) -> tuple[Float[Tensor, "B T D"], None]:
        """No pass of the victim."""
        return request.noise().normal(request.batch.x), None
