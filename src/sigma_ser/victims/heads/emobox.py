"""EmoBox's head: a linear layer with ReLU on each frame, mean pooling, linear."""

from __future__ import annotations

from jaxtyping import Float, Int
from torch import Tensor, nn

from sigma_ser.core.registry import register
from sigma_ser.victims.pooling import mean_pool


@register("head", "emobox")
class EmoBox(nn.Module):
    """Project each frame to 256, ReLU, mean over frames, linear.

    Source: the classifier on frozen features of Ma et al. 2024, "EmoBox: multilingual multi-corpus
    speech emotion recognition toolkit and benchmark" (its `examples/sb/classifier_head.py`); the
    same head as that of emotion2vec (Ma et al. 2023). The two layers, ReLU and the mean are those
    of the source; the standardisation of the input is ours.

    Args:
        channels: width of the features.
        classes: number of emotions.
        hidden: width of the projection, 256 in EmoBox.
    """

    def __init__(self, channels: int, classes: int, *, hidden: int = 256) -> None:
        super().__init__()
        self.project = nn.Sequential(nn.Linear(channels, hidden), nn.ReLU())
        self.classify = nn.Linear(hidden, classes)

    def forward(self, x: Float[Tensor, "B T D"], lengths: Int[Tensor, "B"]) -> Float[Tensor, "B C"]:
        """Logits of standardised features."""
        logits: Tensor = self.classify(mean_pool(self.project(x), lengths))
        return logits
