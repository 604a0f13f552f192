"""Pooling over the valid frames of each utterance, and what heads need to ignore padding."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from sigma_ser.core.features import valid_frames


def mean_pool(h: Float[Tensor, "B T H"], lengths: Int[Tensor, "B"]) -> Float[Tensor, "B H"]:
    """Mean over the valid frames."""
    valid = valid_frames(lengths, h.shape[1])[:, :, None]
    return h.masked_fill(~valid, 0.0).sum(1) / lengths[:, None].to(h.dtype)


def statistics_pool(h: Float[Tensor, "B T H"], lengths: Int[Tensor, "B"]) -> Float[Tensor, "B 2*H"]:
    """Mean and standard deviation over the valid frames (Snyder et al. 2018, x-vectors)."""
    mean = mean_pool(h, lengths)
    variance = mean_pool((h - mean[:, None, :]) ** 2, lengths)
    # The floor keeps the root's slope finite where an utterance has one frame.
    return torch.cat([mean, (variance + 1e-5).sqrt()], dim=1)


class AttentivePooling(nn.Module):
    """Self-attentive pooling: a learned weighted mean over the valid frames.

    Source: Lin et al. 2017, "A structured self-attentive sentence embedding", eq. 5, with one
    attention row. `weights(h, lengths)` gives the `(B, T)` attention that the `attention`
    explainer shows.
    """

    def __init__(self, width: int, hidden: int = 64) -> None:
        super().__init__()
        self.score = nn.Sequential(nn.Linear(width, hidden), nn.Tanh(), nn.Linear(hidden, 1))

    def weights(self, h: Float[Tensor, "B T H"], lengths: Int[Tensor, "B"]) -> Float[Tensor, "B T"]:
        """Attention over the valid frames, zero on padding, sums to 1."""
        scores = self.score(h).squeeze(-1)
        valid = valid_frames(lengths, h.shape[1])
        return torch.softmax(scores.masked_fill(~valid, -torch.inf), dim=1)

    def forward(self, h: Float[Tensor, "B T H"], lengths: Int[Tensor, "B"]) -> Float[Tensor, "B H"]:
        """Weighted mean of `h`."""
        weights = self.weights(h, lengths)
        valid = valid_frames(lengths, h.shape[1])[:, :, None]
        return torch.einsum("bt,bth->bh", weights, h.masked_fill(~valid, 0.0))
