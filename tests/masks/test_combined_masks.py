"""Consensus maps and maps on a relative time axis, against values by hand."""

from __future__ import annotations

import pytest
import torch

from sigma_ser.core.budget import Budget
from sigma_ser.core.errors import ShapeError
from sigma_ser.explainers.relative_time import fold, unfold
from sigma_ser.masks.combine import consensus
from sigma_ser.masks.topk import topk_mask

LENGTHS = torch.tensor([4, 2])


def test_in_a_consensus_all_maps_have_equal_weight_whatever_their_magnitude():
    quiet = torch.zeros(2, 4, 3)
    quiet[:, 0, 0], quiet[:, 1, 1] = -2e-6, 1e-6
    loud = torch.zeros(2, 4, 3)
    loud[:, 1, 1], loud[:, 1, 2] = 6e6, -3e6
    silent = torch.zeros(2, 4, 3)
    scores = consensus([quiet, loud, silent], LENGTHS)
    torch.testing.assert_close(scores[:, 1, 1], torch.full((2,), (1 / 3 + 2 / 3) / 3))
    torch.testing.assert_close(scores[:, 0, 0], torch.full((2,), 2 / 9))
    best = topk_mask(scores, LENGTHS, Budget(count=1))
    assert best.nonzero().tolist() == [[0, 1, 1], [1, 1, 1]]


def test_gradients_enter_a_consensus_times_their_scale():
    saliency = torch.tensor([[[1.0, 2.0]]])
    scores = consensus([saliency], torch.tensor([1]), scales=[torch.tensor([4.0, 1.0])])
    torch.testing.assert_close(scores, torch.tensor([[[4 / 6, 2 / 6]]]))


def test_a_universal_map_is_expanded_to_other_lengths():
    """Only class 1 depends on the second half of the second channel, at any length."""
    scores = torch.zeros(3, 8, 2)
    lengths = torch.tensor([8, 4, 6])
    scores[0, 4:8, 1] = 5.0
    scores[1, 2:4, 1] = 0.1
    scores[2, 0:3, 0] = 1.0
    maps = fold(scores, lengths, bins=2, groups=torch.tensor([1, 1, 0]))
    torch.testing.assert_close(maps[1], torch.tensor([[0.0, 0.0], [0.0, 1.0]]))
    torch.testing.assert_close(maps[0], torch.tensor([[1.0, 0.0], [0.0, 0.0]]))
    laid = unfold(maps[1], torch.tensor([10, 3]))
    assert laid[0].nonzero().tolist() == [[t, 1] for t in range(5, 10)]
    assert laid[1].nonzero().tolist() == [[1, 1], [2, 1]]
    assert set(fold(scores, lengths)) == {0}


def test_maps_of_different_shapes_are_an_error():
    with pytest.raises(ShapeError, match="at least one"):
        consensus([], LENGTHS)
    with pytest.raises(ShapeError, match="same shape"):
        consensus([torch.zeros(2, 4, 3), torch.zeros(2, 4, 4)], LENGTHS)
    with pytest.raises(ShapeError, match="bins"):
        fold(torch.zeros(2, 4, 3), LENGTHS, bins=0)
