"""Sizes of a perturbation, against numbers written out by hand."""

from __future__ import annotations

import pytest
import torch

from sigma_ser.core.errors import ShapeError
from sigma_ser.core.features import FeatureBatch
from sigma_ser.evaluate.size import sizes


def test_sizes_by_hand_and_nothing_of_the_padding():
    batch = FeatureBatch(torch.zeros(2, 3, 2), torch.tensor([3, 2]))
    x = torch.zeros(2, 3, 2)
    x[0, 0, 0], x[0, 2, 0], x[0, 2, 1] = 3.0, -4.0, 12.0
    x[1, 2, 1] = 100.0  # padding
    result = sizes(batch, x, torch.tensor([2.0, 24.0]))
    assert result["l0"].tolist() == [3, 0]
    assert result["l0_share"].tolist() == [0.5, 0.0]
    assert result["l2"].tolist() == [13.0, 0.0]
    assert result["linf"].tolist() == [2.0, 0.0]
    assert result["linf_features"].tolist() == [12.0, 0.0]
    assert result["l2_scaled"][0] == pytest.approx((1.5**2 + 2**2 + 0.5**2) ** 0.5)
    assert result["frames_touched"].tolist() == [2, 0]
    assert result["channels_touched"].tolist() == [2, 0]
    # To the bit the same alone and in company.
    alone = sizes(FeatureBatch(batch.x[:1], batch.lengths[:1]), x[:1], torch.tensor([2.0, 24.0]))
    assert {name: value[:1].tolist() for name, value in result.items()} == {
        name: value.tolist() for name, value in alone.items()
    }
    nobody = sizes(FeatureBatch(batch.x[:0], batch.lengths[:0]), x[:0], torch.ones(2))
    assert {name: (len(value), value.dtype) for name, value in nobody.items()} == {
        name: (0, value.dtype) for name, value in result.items()
    }
    with pytest.raises(ShapeError, match="x_adv"):
        sizes(batch, x[:1], torch.ones(2))
