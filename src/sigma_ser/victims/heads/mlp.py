"""Mean and standard deviation pooling and a multilayer perceptron."""

from __future__ import annotations

from jaxtyping import Float, Int
from torch import Tensor, nn

from sigma_ser.core.registry import register
from sigma_ser.victims.pooling import statistics_pool


@register("head", "mlp")
class MLP(nn.Module):
    """A frame-wise projection, statistics pooling, one hidden layer.

    Args:
        channels: width of the features.
        classes: number of emotions.
        hidden: width of projection and hidden layer.
        dropout: rate in training, before each of the last two layers.
    """

    def __init__(
        self, channels: int, classes: int, *, hidden: int = 256, dropout: float = 0.2
    ) -> None:
        super().__init__()
        self.project = nn.Sequential(nn.Linear(channels, hidden), nn.ReLU())
        self.classify = nn.Sequential(
            nn.Dropout(dropout),
            nn.Linear(2 * hidden, hidden),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Linear(hidden, classes),
        )

    def forward(self, x: Float[Tensor, "B T D"], lengths: Int[Tensor, "B"]) -> Float[Tensor, "B C"]:
        """Logits of standardised features."""
        logits: Tensor = self.classify(statistics_pool(self.project(x), lengths))
        return logits
