"""Victims whose logits depend on the batch: each utterance is classified alone."""

from __future__ import annotations

import torch
from torch import Tensor, nn

import sigma_ser as ss

CLASSES, UTTERANCES, FRAMES, CHANNELS = 3, 18, 10, 8
BUDGET = ss.Budget(sparsity=0.05, epsilon=2.0)


class BatchStatistics(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(CHANNELS, track_running_stats=False)
        self.out = nn.Linear(CHANNELS, CLASSES)

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        # The third moment: the first two are the same for every normalised utterance.
        return self.out(self.norm(x.transpose(1, 2)).pow(3).mean(2))  # type: ignore[no-any-return]


def test_batch_normalisation_without_running_statistics_sees_each_utterance_alone() -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        victim = ss.wrap(BatchStatistics().eval())
    x = torch.randn(UTTERANCES, FRAMES, CHANNELS, generator=torch.Generator().manual_seed(3))
    lengths = torch.arange(UTTERANCES) % 5 + FRAMES - 4
    batch = ss.FeatureBatch(x, lengths)
    labels = victim(batch.x, batch.lengths).argmax(1)
    large = ss.Budget(sparsity=0.3, epsilon=4.0)
    result = ss.attack("dual-averaging", victim, batch, labels, large)
    assert result.success.any()
    for row in range(UTTERANCES):
        one = result.features(batch).select(torch.tensor([row]))
        assert victim(one.x, one.lengths).argmax(1) == result.prediction[row]
    assert ss.check_gradients(victim, batch, labels, BUDGET).batch_dependent == 0.0
