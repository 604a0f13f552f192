"""WavLM (Chen et al. 2022)."""

from __future__ import annotations

import warnings

from jaxtyping import Float
from torch import Tensor

from sigma_ser.core.registry import register

from .convolutional import Convolutional


@register("encoder", "wavlm")
class WavLM(Convolutional):
    """Features of a `WavLMModel`."""

    family = "wavlm"
    model_class = "WavLMModel"

    def run(self, inputs: Float[Tensor, "B N"], lengths: list[int] | None) -> Tensor:
        """Run the model; its attention gives torch a mask and a bias of two types."""
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Support for mismatched key_padding_mask")
            return super().run(inputs, lengths)
