"""ECAPA-TDNN: channel attention, multi-scale convolutions, attentive statistics pooling."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from sigma_ser.core.features import valid_frames
from sigma_ser.core.registry import register
from sigma_ser.victims.pooling import mean_pool


class MaskedConvolution(nn.Module):
    """A convolution over time, ReLU and a norm, after which padding is cleared.

    The norm is over the channels of a frame. With the batch norm of the paper, the statistics of
    training would depend on padding and on the other utterances.
    """

    def __init__(self, inputs: int, outputs: int, kernel: int = 1, dilation: int = 1) -> None:
        super().__init__()
        self.convolution = nn.Conv1d(
            inputs, outputs, kernel, dilation=dilation, padding=dilation * (kernel // 2)
        )
        self.rectify = nn.ReLU()
        # An eps of the order of the unit variance of the features: a norm that amplifies small
        # inputs is nearly discontinuous at the channel means, the baseline of integrated gradients,
        # whose completeness would be lost.
        self.norm = nn.LayerNorm(outputs, eps=1.0)

    def forward(
        self, h: Float[Tensor, "B I T"], padding: Bool[Tensor, "B 1 T"]
    ) -> Float[Tensor, "B O T"]:
        """Convolve `h`; input and output are zero on padding."""
        rectified = self.rectify(self.convolution(h))
        normed: Tensor = self.norm(rectified.transpose(1, 2)).transpose(1, 2)
        return normed.masked_fill(padding, 0.0)


class SqueezeExcitation(nn.Module):
    """Channel weights computed from the whole utterance (ECAPA-TDNN, section 3.2, eq. 4 and 5)."""

    def __init__(self, width: int, squeezed: int) -> None:
        super().__init__()
        self.weigh = nn.Sequential(
            nn.Linear(width, squeezed), nn.ReLU(), nn.Linear(squeezed, width), nn.Sigmoid()
        )

    def forward(
        self, h: Float[Tensor, "B H T"], lengths: Int[Tensor, "B"]
    ) -> Float[Tensor, "B H T"]:
        """Scale each channel of `h` by a weight in (0, 1)."""
        weights = self.weigh(mean_pool(h.transpose(1, 2), lengths))
        scaled: Tensor = h * weights[:, :, None]
        return scaled


class SERes2Block(nn.Module):
    """Convolutions at several scales between two pointwise ones, then channel attention.

    Section 3.2 and figure 2: the channels are cut into `groups`; each group but the first is
    convolved together with what came out of the one before it (Gao et al. 2019, Res2Net).
    """

    def __init__(self, width: int, kernel: int, dilation: int, groups: int) -> None:
        super().__init__()
        part = width // groups
        self.enter = MaskedConvolution(width, width)
        self.scales = nn.ModuleList(
            MaskedConvolution(part, part, kernel, dilation) for _ in range(groups - 1)
        )
        self.leave = MaskedConvolution(width, width)
        self.attend = SqueezeExcitation(width, max(1, width // 4))

    def forward(
        self, h: Float[Tensor, "B H T"], padding: Bool[Tensor, "B 1 T"], lengths: Int[Tensor, "B"]
    ) -> Float[Tensor, "B H T"]:
        """Return the output of the block, with its residual connection."""
        first, *rest = self.enter(h, padding).chunk(len(self.scales) + 1, dim=1)
        parts, last = [first], torch.zeros_like(first)
        for convolve, part in zip(self.scales, rest, strict=True):
            last = convolve(part + last, padding)
            parts.append(last)
        refined: Tensor = h + self.attend(self.leave(torch.cat(parts, 1), padding), lengths)
        return refined


class AttentiveStatistics(nn.Module):
    """Mean and standard deviation under an attention for each channel (section 3.1).

    The attention sees each frame beside the mean and standard deviation of the utterance
    (equations 1 to 3, and the global context below them).
    """

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.score = nn.Sequential(
            nn.Conv1d(3 * width, hidden, 1), nn.Tanh(), nn.Conv1d(hidden, width, 1)
        )

    def forward(
        self, h: Float[Tensor, "B H T"], padding: Bool[Tensor, "B 1 T"], lengths: Int[Tensor, "B"]
    ) -> Float[Tensor, "B 2*H"]:
        """Pool `h`, which is zero on padding."""
        evenly = (~padding).to(h.dtype) / lengths[:, None, None].to(h.dtype)
        context = torch.cat([part[:, :, None].expand_as(h) for part in _moments(h, evenly)], 1)
        scores = self.score(torch.cat([h, context], 1)).masked_fill(padding, -torch.inf)
        return torch.cat(_moments(h, torch.softmax(scores, dim=2)), dim=1)


def _moments(
    h: Float[Tensor, "B H T"], weights: Float[Tensor, "B _ T"]
) -> tuple[Float[Tensor, "B H"], Float[Tensor, "B H"]]:
    """Mean and standard deviation under weights that sum to 1 over time."""
    mean = (h * weights).sum(2)
    variance = ((h - mean[:, :, None]).square() * weights).sum(2)
    # The constant keeps the gradient of the root finite for an utterance of one frame.
    return mean, (variance + 1e-5).sqrt()


@register("head", "ecapa")
class ECAPA(nn.Module):
    """A small ECAPA-TDNN: three SE-Res2 blocks, their outputs joined, attentive statistics.

    Source: Desplanques et al. 2020, "ECAPA-TDNN: emphasized channel attention, propagation and
    aggregation in TDNN based speaker verification". This differs from it: 64 channels in place of
    512, a pointwise first layer (the features have seen their context already), layer norm (eps 1)
    in place of batch norm, and a linear classifier in place of an embedding with a margin.

    Args:
        channels: width of the features.
        classes: number of emotions.
        hidden: channels of the convolutions, a multiple of `groups`.
        groups: scales of a block.
        dropout: rate in training, on the input and before the last layer.
    """

    def __init__(
        self,
        channels: int,
        classes: int,
        *,
        hidden: int = 64,
        groups: int = 4,
        dropout: float = 0.2,
    ) -> None:
        super().__init__()
        if hidden % groups:
            raise TypeError(f"hidden={hidden} must be a multiple of groups={groups}")
        self.dropout = nn.Dropout(dropout)
        self.enter = MaskedConvolution(channels, hidden)
        # Kernel 3 with dilations 2, 3 and 4, as in table 1 of the paper.
        self.blocks = nn.ModuleList(
            SERes2Block(hidden, 3, dilation, groups) for dilation in (2, 3, 4)
        )
        self.join = MaskedConvolution(3 * hidden, 2 * hidden)
        self.pool = AttentiveStatistics(2 * hidden, hidden // 2)
        self.classify = nn.Sequential(
            nn.LayerNorm(4 * hidden), nn.Dropout(dropout), nn.Linear(4 * hidden, classes)
        )

    def forward(self, x: Float[Tensor, "B T D"], lengths: Int[Tensor, "B"]) -> Float[Tensor, "B C"]:
        """Logits of standardised features."""
        padding = ~valid_frames(lengths, x.shape[1])[:, None, :]
        # The input is cleared as well: a large value on padding times a zero weight may be NaN.
        h = self.enter(self.dropout(x).transpose(1, 2).masked_fill(padding, 0.0), padding)
        levels = []
        for block in self.blocks:
            h = block(h, padding, lengths)
            levels.append(h)
        joined = self.join(torch.cat(levels, 1), padding)
        logits: Tensor = self.classify(self.pool(joined, padding, lengths))
        return logits
