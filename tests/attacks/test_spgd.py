"""Sparse-PGD on structured budgets: one mask logit for each frame, channel or segment."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

import sigma_ser as ss
from sigma_ser.core.budget import Granularity

LENGTHS = torch.tensor([23, 12, 17, 20])


class Weighted(nn.Module):
    """Affine in the features, with a weight for each frame and channel."""

    def __init__(self) -> None:
        super().__init__()
        rng = torch.Generator().manual_seed(0)
        self.weight = nn.Parameter(torch.randn(23, 6, generator=rng))

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        del lengths  # padding is zero
        score = (x * self.weight[: x.shape[1]]).sum((1, 2))
        return torch.stack([score, -score], dim=1)


def speech() -> ss.FeatureBatch:
    x = torch.randn(4, 23, 6, generator=torch.Generator().manual_seed(1))
    valid = torch.arange(23) < LENGTHS[:, None]
    return ss.FeatureBatch(x * valid[:, :, None], LENGTHS)


@pytest.mark.parametrize("structured", [True, False])
@pytest.mark.parametrize("granularity", ["frame", "channel", "segment"])
def test_it_finds_the_best_units_of_an_affine_victim(
    granularity: Granularity, structured: bool
) -> None:
    victim, batch = ss.wrap(Weighted().eval()), speech()
    labels = victim(batch.x, batch.lengths).argmax(1)
    for epsilon in (0.4, 0.8, 1.6):
        budget = ss.Budget(sparsity=0.2, epsilon=epsilon, granularity=granularity, segment_frames=5)
        best = ss.attack("oneshot", victim, batch, labels, budget)  # exact on an affine victim
        attack = ss.make_attack("spgd", structured=structured)
        found = attack(victim, batch, labels, budget)
        assert found.success.tolist() == best.success.tolist()


def test_single_elements_are_attacked_as_without_structure() -> None:
    victim, batch = ss.wrap(Weighted().eval()), speech()
    labels, budget = victim(batch.x, batch.lengths).argmax(1), ss.Budget(sparsity=0.1)
    found = [
        ss.make_attack("spgd", steps=5, structured=given)(victim, batch, labels, budget).x_adv
        for given in (True, False)
    ]
    torch.testing.assert_close(*found, atol=0.0, rtol=0.0)
