"""Small victims and batches for the tests of attacks."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from sigma_ser.core.features import FeatureBatch, valid_frames
from sigma_ser.victims.victim import WrappedVictim, wrap

CHANNELS, CLASSES = 6, 3


class ConvHead(nn.Module):
    """A smooth non-linear victim that ignores padding."""

    def __init__(self) -> None:
        super().__init__()
        self.mix = nn.Conv1d(CHANNELS, 8, 3, padding=1)
        self.out = nn.Linear(8, CLASSES)

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        valid = valid_frames(lengths, x.shape[1])[:, None, :]
        hidden = torch.tanh(self.mix(x.transpose(1, 2) * valid)) * valid
        return self.out(hidden.sum(2) / lengths[:, None])


class LinearHead(nn.Module):
    """Two classes with one weight per element: the best attack is known."""

    def __init__(self, frames: int, channels: int, seed: int) -> None:
        super().__init__()
        rng = torch.Generator().manual_seed(seed)
        self.weight = nn.Parameter(torch.randn(frames, channels, generator=rng))

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        valid = valid_frames(lengths, x.shape[1])[:, :, None]
        score = (x * valid * self.weight[: x.shape[1]]).sum((1, 2))
        return torch.stack([score, -score], 1)


@pytest.fixture(scope="session")
def conv_victim() -> WrappedVictim:
    torch.manual_seed(3)
    scale = torch.linspace(0.5, 2.0, CHANNELS)
    return wrap(ConvHead().eval(), class_names=("a", "b", "c"), scale=scale)


@pytest.fixture(scope="session")
def utterances(conv_victim: WrappedVictim) -> tuple[FeatureBatch, Tensor]:
    """Six utterances of different lengths, all classified correctly, and their labels."""
    rng = torch.Generator().manual_seed(7)
    x = torch.randn(6, 9, CHANNELS, generator=rng)
    lengths = torch.tensor([9, 4, 7, 9, 5, 8])
    x = x.masked_fill(~valid_frames(lengths, 9)[:, :, None], 0.0)
    batch = FeatureBatch(x, lengths)
    return batch, conv_victim(x, lengths).argmax(1)
