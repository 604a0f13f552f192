"""Mean pooling and one linear layer: a linear probe."""

from __future__ import annotations

from jaxtyping import Float, Int
from torch import Tensor, nn

from sigma_ser.core.registry import register
from sigma_ser.victims.pooling import mean_pool


@register("head", "linear")
class Linear(nn.Module):
    """`W mean_t(x) + b`, for which gradient explanations have a closed form.

    Args:
        channels: width of the features.
        classes: number of emotions.
    """

    def __init__(self, channels: int, classes: int) -> None:
        super().__init__()
        self.classify = nn.Linear(channels, classes)

    def forward(self, x: Float[Tensor, "B T D"], lengths: Int[Tensor, "B"]) -> Float[Tensor, "B C"]:
        """Logits of standardised features."""
        logits: Tensor = self.classify(mean_pool(x, lengths))
        return logits
