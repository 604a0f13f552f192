"""A past fault: the gradient of a plain sum is one number, expanded, and cannot be written to."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from sigma_ser.attacks.factory import make_attack
from sigma_ser.core.budget import Budget
from sigma_ser.core.features import FeatureBatch
from sigma_ser.victims.victim import wrap


class SumHead(nn.Module):
    """The sign of the sum of all features; padding is zero, so nothing need be masked."""

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        del lengths
        total = x.sum((1, 2))
        return torch.stack([total, -total], 1)


@pytest.mark.parametrize("name", ["dual-averaging", "spgd", "reselect", "oneshot"])
def test_a_mask_or_padding_with_an_expanded_gradient(name: str) -> None:
    lengths = torch.tensor([5, 3])
    batch = FeatureBatch(torch.ones(2, 5, 4), lengths)
    x = batch.x.masked_fill(~batch.valid[:, :, None], 0.0)
    batch = FeatureBatch(x, lengths)
    mask = torch.zeros(x.shape, dtype=torch.bool)
    mask[:, 1:3] = True
    result = make_attack(name)(
        wrap(SumHead().eval(), scale=torch.ones(4)),
        batch, torch.zeros(2, dtype=torch.long), Budget(count=2, epsilon=0.5), mask=mask,
    )  # fmt: skip
    assert (result.x_adv.sum((1, 2)) - x.sum((1, 2))).tolist() == pytest.approx([-1.0, -1.0])
