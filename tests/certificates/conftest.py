"""Small victims and budgets, for which every corner of the allowed changes can be visited."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from sigma_ser.core.budget import Budget
from sigma_ser.core.features import FeatureBatch
from sigma_ser.victims.victim import Standardised, WrappedVictim, wrap

FRAMES, CHANNELS, CLASSES = 3, 2, 3
BUDGETS = [
    Budget(count=2, epsilon=0.7),
    Budget(sparsity=0.34, epsilon=torch.tensor([0.2, 1.1])),
    Budget(sparsity=0.4, epsilon=0.8, granularity="frame"),
    Budget(sparsity=0.5, epsilon=0.8, granularity="channel"),
    Budget(sparsity=1.0, epsilon=0.4),
    Budget(sparsity=0.5, epsilon=0.6, granularity="segment", segment_frames=1),
]


@pytest.fixture
def small_victim() -> Callable[..., WrappedVictim]:
    """Makes a head with random weights; its victim has another scale than its standardisation."""

    def make(head: type[nn.Module], seed: int = 0, **settings: object) -> WrappedVictim:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            module = head(CHANNELS, CLASSES, **settings)
            mean, scale = torch.randn(CHANNELS), 0.5 + torch.rand(CHANNELS)
        return wrap(Standardised(module, mean, scale).eval(), mean=mean, scale=scale + 0.25)

    return make


@pytest.fixture
def batch() -> FeatureBatch:
    """Random utterances of different lengths."""
    rng = torch.Generator().manual_seed(1)
    x = 1.5 * torch.randn(4, FRAMES, CHANNELS, generator=rng)
    return FeatureBatch(x, torch.tensor([FRAMES, FRAMES - 1, FRAMES, FRAMES]))


@pytest.fixture
def half_mask(batch: FeatureBatch) -> Tensor:
    """A mask of about half of the elements, which cuts frames and channels."""
    rng = torch.Generator().manual_seed(5)
    return torch.rand(batch.x.shape, generator=rng) < 0.5


@pytest.fixture(params=BUDGETS, ids=lambda one: f"{one.granularity}-{one.sparsity or one.count}")
def budget(request: pytest.FixtureRequest) -> Budget:
    """One budget of each granularity, and extreme ones."""
    found: Budget = request.param
    return found


@pytest.fixture(params=["free", "masked"])
def mask(request: pytest.FixtureRequest, half_mask: Tensor) -> Tensor | None:
    """No mask, and one."""
    return half_mask if request.param == "masked" else None
