"""Saliency maps of zeros are counted, over valid elements only."""

from __future__ import annotations

import torch

from sigma_ser.explainers.explanation import explain
from sigma_ser.explainers.ranking import zero_map_share, zero_maps
from sigma_ser.victims.victim import wrap


def test_a_map_is_zero_where_all_valid_elements_are(batch):
    saliency = torch.zeros(3, 17, 6)
    saliency[0, 16, 5] = -1e-38  # the last valid element of the first utterance
    saliency[1, 12:] = 1.0  # padding
    assert zero_maps(saliency, batch.lengths).tolist() == [False, True, True]
    assert abs(zero_map_share(saliency, batch.lengths) - 2 / 3) < 1e-12
    assert zero_map_share(saliency[:0], batch.lengths[:0]) == 0.0


def test_the_gradient_of_rounded_features_is_a_map_of_zeros(batch, labels):
    """Control: the gradient of the same victim without rounding is not."""

    class Rounded(torch.nn.Module):
        def __init__(self, step):
            super().__init__()
            self.step = step
            weight = torch.randn(4, 6, generator=torch.Generator().manual_seed(1))
            self.weight = torch.nn.Parameter(weight)

        def forward(self, x, lengths):
            x = x if self.step is None else torch.round(x / self.step) * self.step
            return (x @ self.weight.T).sum(1) / lengths[:, None]

    for step, share in ((0.05, 1.0), (None, 0.0)):
        saliency = explain("gradient", wrap(Rounded(step).eval()), batch, labels)
        assert zero_map_share(saliency, batch.lengths) == share
