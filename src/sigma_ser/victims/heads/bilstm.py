"""Bidirectional LSTM with self-attentive pooling."""

from __future__ import annotations

from jaxtyping import Float, Int
from torch import Tensor, nn

from sigma_ser.core.registry import register
from sigma_ser.victims.pooling import AttentivePooling
from sigma_ser.victims.recurrent import Bidirectional


@register("head", "bilstm")
class BiLSTM(nn.Module):
    """One bidirectional LSTM layer, attention over frames, linear.

    Source: the recurrent attention model of Mirsamadi et al. 2017 (ICASSP), section 3.2.

    Args:
        channels: width of the features.
        classes: number of emotions.
        hidden: width of one direction.
        dropout: rate in training, on the input and before the last layer.
    """

    cell: type[nn.LSTM] | type[nn.GRU] = nn.LSTM

    def __init__(
        self, channels: int, classes: int, *, hidden: int = 64, dropout: float = 0.3
    ) -> None:
        super().__init__()
        self.dropout = nn.Dropout(dropout)
        self.recurrent = Bidirectional(self.cell, channels, hidden)
        self.pool = AttentivePooling(2 * hidden)
        self.classify = nn.Linear(2 * hidden, classes)

    def forward(self, x: Float[Tensor, "B T D"], lengths: Int[Tensor, "B"]) -> Float[Tensor, "B C"]:
        """Logits of standardised features."""
        h = self.recurrent(self.dropout(x), lengths)
        logits: Tensor = self.classify(self.dropout(self.pool(h, lengths)))
        return logits

    def attention(
        self, x: Float[Tensor, "B T D"], lengths: Int[Tensor, "B"]
    ) -> Float[Tensor, "B T"]:
        """Weights of the frames in the pooling, zero on padding."""
        return self.pool.weights(self.recurrent(x, lengths), lengths)
