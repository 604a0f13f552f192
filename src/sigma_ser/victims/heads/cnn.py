"""Convolutions over time, each followed by masking of the padding, and mean pooling."""

from __future__ import annotations

import itertools

from jaxtyping import Float, Int
from torch import Tensor, nn

from sigma_ser.core.features import valid_frames
from sigma_ser.core.registry import register
from sigma_ser.victims.pooling import mean_pool


@register("head", "cnn")
class CNN(nn.Module):
    """Two convolutions over time, mean pooling, linear.

    Args:
        channels: width of the features.
        classes: number of emotions.
        hidden: channels of the convolutions.
        kernel: number of frames of a convolution kernel, odd.
        dropout: rate in training, before the last layer.
    """

    def __init__(
        self,
        channels: int,
        classes: int,
        *,
        hidden: int = 128,
        kernel: int = 5,
        dropout: float = 0.2,
    ) -> None:
        super().__init__()
        widths = [channels, hidden, hidden]
        self.convolutions = nn.ModuleList(
            nn.Conv1d(a, b, kernel, padding=kernel // 2) for a, b in itertools.pairwise(widths)
        )
        self.rectify = nn.ModuleList(nn.ReLU() for _ in self.convolutions)
        self.classify = nn.Sequential(nn.Dropout(dropout), nn.Linear(hidden, classes))

    def forward(self, x: Float[Tensor, "B T D"], lengths: Int[Tensor, "B"]) -> Float[Tensor, "B C"]:
        """Logits of standardised features."""
        padding = ~valid_frames(lengths, x.shape[1])[:, None, :]
        h = x.transpose(1, 2).masked_fill(padding, 0.0)
        for convolution, rectify in zip(self.convolutions, self.rectify, strict=True):
            # Bias and neighbouring frames make padding non-zero, so it is cleared every time.
            h = rectify(convolution(h)).masked_fill(padding, 0.0)
        logits: Tensor = self.classify(mean_pool(h.transpose(1, 2), lengths))
        return logits
