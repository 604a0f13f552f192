"""A small Transformer encoder with mean pooling."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from sigma_ser.core.features import valid_frames
from sigma_ser.core.registry import register
from sigma_ser.victims.pooling import mean_pool


def sinusoids(frames: int, width: int, like: Tensor) -> Float[Tensor, "T H"]:
    """Positional encoding of Vaswani et al. 2017, section 3.5."""
    position = torch.arange(frames, device=like.device, dtype=like.dtype)[:, None]
    rate = torch.exp(
        torch.arange(0, width, 2, device=like.device, dtype=like.dtype) * (-math.log(1e4) / width)
    )
    angles = position * rate
    return torch.stack([angles.sin(), angles.cos()], dim=-1).flatten(1)[:, :width]


class EncoderLayer(nn.Module):
    """Pre-norm self-attention and feed-forward (Xiong et al. 2020), with padding masked.

    `nn.TransformerEncoderLayer` is not used, because in eval mode it selects a fused path without
    a gradient for its input.
    """

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.norm_attention = nn.LayerNorm(width)
        self.to_qkv = nn.Linear(width, 3 * width)
        self.from_heads = nn.Linear(width, width)
        self.norm_forward = nn.LayerNorm(width)
        self.forward_layers = nn.Sequential(
            nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width)
        )
        self.dropout = nn.Dropout(dropout)

    def forward(self, h: Tensor, attend: Tensor) -> Tensor:
        """Map `h (B, T, H)` to `(B, T, H)`; `attend (B, 1, 1, T)` is True on valid frames."""
        q, k, v = (
            part.unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for part in self.to_qkv(self.norm_attention(h)).chunk(3, dim=-1)
        )
        mixed = nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=attend)
        h = h + self.dropout(self.from_heads(mixed.transpose(1, 2).flatten(2)))
        refined: Tensor = h + self.dropout(self.forward_layers(self.norm_forward(h)))
        return refined


@register("head", "transformer")
class Transformer(nn.Module):
    """A projection, positional encoding, Transformer layers, mean pooling, linear.

    Args:
        channels: width of the features.
        classes: number of emotions.
        hidden: width of the model.
        layers: number of Transformer layers.
        heads: attention heads.
        dropout: rate in training.
    """

    def __init__(
        self,
        channels: int,
        classes: int,
        *,
        hidden: int = 128,
        layers: int = 2,
        heads: int = 4,
        dropout: float = 0.2,
    ) -> None:
        super().__init__()
        self.project = nn.Linear(channels, hidden)
        self.layers = nn.ModuleList(EncoderLayer(hidden, heads, dropout) for _ in range(layers))
        self.norm = nn.LayerNorm(hidden)
        self.classify = nn.Sequential(nn.Dropout(dropout), nn.Linear(hidden, classes))

    def forward(self, x: Float[Tensor, "B T D"], lengths: Int[Tensor, "B"]) -> Float[Tensor, "B C"]:
        """Logits of standardised features."""
        h = self.project(x)
        h = h + sinusoids(h.shape[1], h.shape[2], h)
        attend = valid_frames(lengths, h.shape[1])[:, None, None, :]
        for layer in self.layers:
            h = layer(h, attend)
        logits: Tensor = self.classify(mean_pool(self.norm(h), lengths))
        return logits
