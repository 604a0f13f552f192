"""Bidirectional recurrent layers that ignore padding exactly, without packed sequences.

A recurrent layer that reads left to right never sees padding before the valid frames, so only the
backward direction needs care: it reads each utterance reversed within its own length. This equals
`pack_padded_sequence` and spares its per-step bookkeeping.
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn


def reverse_frames(h: Float[Tensor, "B T H"], lengths: Int[Tensor, "B"]) -> Float[Tensor, "B T H"]:
    """Turn the valid frames of each utterance round; padding stays where it is."""
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
        """Both directions side by side; what lies on padding has no meaning."""
        ahead = self.ahead(x)[0]
        back = reverse_frames(self.back(reverse_frames(x, lengths))[0], lengths)
        return torch.cat([ahead, back], dim=-1)
