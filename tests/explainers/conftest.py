"""Victims for the tests of explainers: every registered head, and a linear victim."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import pytest
import torch

from sigma_ser.core.features import FeatureBatch
from sigma_ser.victims.checkpoint import make_head
from sigma_ser.victims.victim import Standardised, WrappedVictim, wrap

CHANNELS, CLASSES = 6, 4
MEAN = torch.linspace(-1.0, 1.0, CHANNELS)
SCALE = torch.linspace(0.5, 2.0, CHANNELS)


@cache
def _victim(head: str) -> WrappedVictim:
    with torch.random.fork_rng():
        torch.manual_seed(7)
        module = Standardised(make_head(head, CHANNELS, CLASSES, {}), MEAN, SCALE)
        # The output of untrained heads is nearly constant; a larger last layer raises gradients.
        with torch.no_grad():
            list(module.parameters())[-2].mul_(4.0)
    return wrap(module.eval(), mean=MEAN, scale=SCALE)


@pytest.fixture
def victim_of() -> Callable[[str], WrappedVictim]:
    """Return a victim with the head of this name, the same at every call."""
    return _victim


@pytest.fixture
def batch() -> FeatureBatch:
    """Three utterances of 17, 12 and 14 frames, with arbitrary values on the padding."""
    rng = torch.Generator().manual_seed(3)
    x = MEAN + SCALE * torch.randn(3, 17, CHANNELS, generator=rng)
    lengths = torch.tensor([17, 12, 14])
    for row, length in enumerate(lengths.tolist()):
        x[row, length:] = 1e4
    return FeatureBatch(x, lengths, ["one", "two", "three"])


@pytest.fixture
def labels() -> torch.Tensor:
    """A class for each utterance."""
    return torch.tensor([0, 3, 1])
