"""The control: a map that knows nothing of the victim."""

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
    """Standard normal noise, seeded for each utterance: what every explainer must beat."""

    control: ClassVar[bool] = True

    def attribute(self, request: Request) -> tuple[Float[Tensor, "B T D"], None]:
        """No pass at all."""
        return request.noise().normal(request.batch.x), None
