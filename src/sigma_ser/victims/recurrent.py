"""Bidirectional recurrent layers that are independent of padding, without packed sequences.

The forward direction processes valid frames before padding. The backward direction processes each
utterance reversed within its own length. This equals `pack_padded_sequence` without its overhead
for each step.
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn


def reverse_frames(h: Float[Tensor, "B T H"], lengths: Int[Tensor, "B"]) -> Float[Tensor, "B T H"]:
    """Reverse the valid frames of each utterance; padding stays in place.

    Args:
        h: `(B, T, H)`.
        lengths: valid frames `(B,)`.

    Returns:
        `(B, T, H)`.
    """
    frames = torch.arange(h.shape[1], device=h.device)[None, :]
    index = torch.where(frames < lengths[:, None], lengths[:, None] - 1 - frames, frames)
    return h.gather(1, index[:, :, None].expand_as(h))


class Bidirectional(nn.Module):
    """One bidirectional recurrent layer: `(B, T, D) -> (B, T, 2 hidden)`.

    Args:
        layer: `nn.LSTM` or `nn.GRU`.
        channels: width of the input.
        hidden: width of one direction.
    """

    def __init__(self, layer: type[nn.LSTM] | type[nn.GRU], channels: int, hidden: int) -> None:
        super().__init__()
        self.ahead = layer(channels, hidden, batch_first=True)
        self.back = layer(channels, hidden, batch_first=True)

    def forward(
        self, x: Float[Tensor, "B T D"], lengths: Int[Tensor, "B"]
    ) -> Float[Tensor, "B T W"]:
        """Return both directions concatenated; values on padding are undefined."""
        ahead = self.ahead(x)[0]
        back = reverse_frames(self.back(reverse_frames(x, lengths))[0], lengths)
        return torch.cat([ahead, back], dim=-1)
