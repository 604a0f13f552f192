"""Scores of segments: they depend on one side of time, sum to the output, and are exact."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import Tensor, nn

import sigma_ser as ss

LENGTHS = torch.tensor([11, 6])


class Attentive(nn.Module):
    """Every frame interacts with every other one."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.out = nn.Linear(3, 2)

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        valid = torch.arange(x.shape[1]) < lengths[:, None]
        weight = x.sum(2).masked_fill(~valid, -torch.inf).softmax(1)
        logits: Tensor = self.out((weight[:, :, None] * x).sum(1).tanh())
        return logits


VICTIM = ss.wrap(Attentive().eval())


def speech() -> ss.FeatureBatch:
    x = torch.randn(2, 11, 3, generator=torch.Generator().manual_seed(1))
    x[1, 6:] = 0.0
    return ss.FeatureBatch(x, LENGTHS)


@pytest.mark.parametrize(
    ("direction", "kept"), [("forward", slice(0, 4)), ("backward", slice(4, None))]
)
def test_a_score_does_not_depend_on_the_other_side_of_time(direction: str, kept: slice) -> None:
    labels, batch = torch.tensor([0, 1]), speech()
    explainer = ss.make_explainer("causal-segments", frames=2, direction=direction)
    found = explainer(VICTIM, batch, labels).saliency
    other = batch.x.clone()
    kept, changed = slice(0, 4), slice(4, None)
    if direction == "backward":
        kept, changed = changed, kept
    other[:, changed] *= -3.0
    again = explainer(VICTIM, ss.FeatureBatch(other, LENGTHS), labels).saliency
    torch.testing.assert_close(found[:, kept], again[:, kept])
    assert not torch.allclose(found[:, changed], again[:, changed])


@pytest.mark.parametrize("direction", ["forward", "backward"])
def test_scores_are_differences_of_outputs_and_sum_to_the_whole(direction: str) -> None:
    labels, batch = torch.tensor([0, 1]), speech()
    found = ss.make_explainer("causal-segments", frames=4, direction=direction)(
        VICTIM, batch, labels
    )
    for row, length in enumerate(LENGTHS.tolist()):
        bounds = [*range(0, length, 4), length]

        def output(first: int, last: int, row: int = row, length: int = length) -> float:
            shown = torch.zeros(1, length, 3)
            shown[0, first:last] = batch.x[row, first:last]
            with torch.no_grad():
                return float(VICTIM(shown, torch.tensor([length]))[0, labels[row]])

        for first, last in itertools.pairwise(bounds):
            expected = (
                output(0, last) - output(0, first)
                if direction == "forward"
                else output(first, length) - output(last, length)
            )
            assert float(found.saliency[row, first:last].sum()) == pytest.approx(expected, abs=1e-5)
    assert found.completeness is not None
    assert found.completeness.abs().max() < 1e-5
    # One pass for each segment, one for the means, and two for the completeness.
    assert found.forwards.tolist() == [3 + 1 + 2, 2 + 1 + 2]
