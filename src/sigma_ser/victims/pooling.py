"""Pooling over the valid frames of each utterance."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from sigma_ser.core.features import valid_frames


def mean_pool(h: Float[Tensor, "B T H"], lengths: Int[Tensor, "B"]) -> Float[Tensor, "B H"]:
    """Compute the mean over the valid frames.

    Args:
        h: `(B, T, H)`; values on padding have no influence.
        lengths: valid frames `(B,)`.

    Returns:
        `(B, H)`.
    """
    valid = valid_frames(lengths, h.shape[1])[:, :, None]
    return h.masked_fill(~valid, 0.0).sum(1) / lengths[:, None].to(h.dtype)


def statistics_pool(h: Float[Tensor, "B T H"], lengths: Int[Tensor, "B"]) -> Float[Tensor, "B 2*H"]:
    """Compute mean and standard deviation over the valid frames (Snyder et al. 2018, x-vectors).

    Args:
        h: `(B, T, H)`; values on padding have no influence.
        lengths: valid frames `(B,)`.

    Returns:
        `(B, 2 H)`, the means and then the standard deviations.
    """
    mean = mean_pool(h, lengths)
    variance = mean_pool((h - mean[:, None, :]) ** 2, lengths)
    # The constant keeps the gradient of the root finite for an utterance of one frame.
    return torch.cat([mean, (variance + 1e-5).sqrt()], dim=1)


class AttentivePooling(nn.Module):
    """Self-attentive pooling: a learned weighted mean over the valid frames.

    Source: Lin et al. 2017, "A structured self-attentive sentence embedding", eq. 5, with one
    attention row. `weights(h, lengths)` returns the attention `(B, T)` that the `attention`
    explainer uses.

    Args:
        width: width `H` of the frames.
        hidden: width of the hidden layer of the attention.
    """

    def __init__(self, width: int, hidden: int = 64) -> None:
        super().__init__()
        self.score = nn.Sequential(nn.Linear(width, hidden), nn.Tanh(), nn.Linear(hidden, 1))

    def weights(self, h: Float[Tensor, "B T H"], lengths: Int[Tensor, "B"]) -> Float[Tensor, "B T"]:
        """Compute the attention of the frames, zero on padding, with the sum 1."""
        scores = self.score(h).squeeze(-1)
        valid = valid_frames(lengths, h.shape[1])
        return torch.softmax(scores.masked_fill(~valid, -torch.inf), dim=1)

    def forward(self, h: Float[Tensor, "B T H"], lengths: Int[Tensor, "B"]) -> Float[Tensor, "B H"]:
        """Return the weighted mean of `h` over the valid frames."""
        weights = self.weights(h, lengths)
        valid = valid_frames(lengths, h.shape[1])[:, :, None]
        return torch.einsum("bt,bth->bh", weights, h.masked_fill(~valid, 0.0))
