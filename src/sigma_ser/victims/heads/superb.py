"""The head of SUPERB's emotion task: a linear projection, mean pooling, linear."""

from __future__ import annotations

from jaxtyping import Float, Int
from torch import Tensor, nn

from sigma_ser.core.registry import register
from sigma_ser.victims.pooling import mean_pool


@register("head", "superb")
class Superb(nn.Module):
    """Project each frame to 256, mean over frames, linear; no non-linearity in between.

    Source: Yang et al. 2021, "SUPERB: Speech processing universal performance benchmark", section
    3.2, emotion recognition: "mean-pooling followed by a linear transformation". The learned
    weighted sum over hidden states (section 3.1) comes before the head, as for every head here:
    train it on features of `layer="all"`. We standardise what comes out of that sum.

    Args:
        channels: width of the features.
        classes: number of emotions.
        hidden: width of the projection, 256 in SUPERB.
    """

    def __init__(self, channels: int, classes: int, *, hidden: int = 256) -> None:
        super().__init__()
        self.project = nn.Linear(channels, hidden)
        self.classify = nn.Linear(hidden, classes)

    def forward(self, x: Float[Tensor, "B T D"], lengths: Int[Tensor, "B"]) -> Float[Tensor, "B C"]:
        """Logits of standardised features."""
        logits: Tensor = self.classify(mean_pool(self.project(x), lengths))
        return logits
