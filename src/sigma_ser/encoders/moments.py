"""Mean, standard deviation and range of channels in one pass, numerically stable."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from sigma_ser.core.errors import StoreError


@dataclass(frozen=True, eq=False)
class Statistics:
    """Statistics of each channel over all frames of some utterances, float32 `(D,)`.

    `std` is the population standard deviation (division by the number of frames).
    """

    mean: Float[Tensor, "D"]
    std: Float[Tensor, "D"]
    min: Float[Tensor, "D"]
    max: Float[Tensor, "D"]


class Moments:
    """Merges blocks of frames, in float64.

    Each block has a mean and a sum of squares about that mean; two such pairs are merged by the
    update of Chan, Golub & LeVeque 1983 (The American Statistician 37(3), eq. 2.1), which
    is stable where the mean is large relative to the standard deviation.
    """

    def __init__(self, channels: int) -> None:
        self.count = 0
        self._mean = torch.zeros(channels, dtype=torch.float64)
        self._squares = torch.zeros(channels, dtype=torch.float64)
        self._min = torch.full((channels,), torch.inf, dtype=torch.float64)
        self._max = torch.full((channels,), -torch.inf, dtype=torch.float64)

    def add(self, block: Tensor) -> None:
        """Add frames `(T, D)` of any floating type."""
        block = block.double()
        count = len(block)
        if count == 0:
            return
        mean = block.mean(0)
        total = self.count + count
        shift = mean - self._mean
        self._squares += (block - mean).square().sum(0) + shift.square() * (
            self.count * count / total
        )
        self._mean += shift * (count / total)
        low, high = torch.aminmax(block, dim=0)
        self._min = torch.minimum(self._min, low)
        self._max = torch.maximum(self._max, high)
        self.count = total

    def statistics(self) -> Statistics:
        """The statistics of all added frames.

        Raises:
            StoreError: if nothing was added.
        """
        if self.count == 0:
            raise StoreError("statistics need at least one frame; give at least one id")
        std = (self._squares / self.count).sqrt()
        return Statistics(self._mean.float(), std.float(), self._min.float(), self._max.float())
