"""The columns of an attack are those of the rows, also for a victim that names no class."""

from __future__ import annotations

import torch

import sigma_ser as ss
from sigma_ser.core.rows import schema
from sigma_ser.evaluate.outcome import outcome


class Sums(torch.nn.Module):
    """Three classes, told by the sums of three channels."""

    def forward(self, x: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        del lengths
        return x.sum(1)


def test_a_victim_without_class_names_is_told_in_those_of_the_corpus() -> None:
    x = torch.eye(3).reshape(3, 1, 3) * 2
    batch = ss.FeatureBatch(x, torch.tensor([1, 1, 1]), ids=("a", "b", "c"))
    victim, labels = ss.wrap(Sums().eval()), torch.tensor([0, 1, 1])
    budget = ss.Budget(count=1, epsilon=3.0)
    result = ss.make_attack("oneshot")(victim, batch, labels, budget)
    told = outcome(victim, batch, labels, budget, result, seconds=6.0, class_names=("angry", "sad"))
    assert told["prediction_before"] == ["angry", "sad", "2"]
    assert told["correct_before"] == [True, True, False]
    assert told["success"][:2] == [before != after for before, after in zip(
        told["prediction_before"][:2], told["prediction_after"][:2], strict=True)]  # fmt: skip
    assert sum(told["seconds"]) == 6.0
    assert told["l0"][2] == 0
    assert set(told) <= set(schema().names)
