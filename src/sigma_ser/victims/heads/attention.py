"""Self-attentive pooling over projected frames."""

from __future__ import annotations

from jaxtyping import Float, Int
from torch import Tensor, nn

from sigma_ser.core.registry import register
from sigma_ser.victims.pooling import AttentivePooling


@register("head", "attention")
class Attention(nn.Module):
    """A frame-wise projection, attention over frames, linear.

    Args:
        channels: width of the features.
        classes: number of emotions.
        hidden: width of the projection.
        dropout: rate in training, before the last layer.
    """

    def __init__(
        self, channels: int, classes: int, *, hidden: int = 128, dropout: float = 0.2
    ) -> None:
        super().__init__()
        self.project = nn.Sequential(nn.Linear(channels, hidden), nn.ReLU())
        self.pool = AttentivePooling(hidden)
        self.classify = nn.Sequential(nn.Dropout(dropout), nn.Linear(hidden, classes))

    def forward(self, x: Float[Tensor, "B T D"], lengths: Int[Tensor, "B"]) -> Float[Tensor, "B C"]:
        """Logits of standardised features."""
        logits: Tensor = self.classify(self.pool(self.project(x), lengths))
        return logits

    def attention(
        self, x: Float[Tensor, "B T D"], lengths: Int[Tensor, "B"]
    ) -> Float[Tensor, "B T"]:
        """Weights of the frames in the pooling, zero on padding."""
        return self.pool.weights(self.project(x), lengths)
