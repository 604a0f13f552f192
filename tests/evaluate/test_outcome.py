"""The columns of an attack are those of the rows, also for a victim that names no class."""

from __future__ import annotations

import torch

import sigma_ser as ss
from sigma_ser.core.rows import schema
from sigma_ser.evaluate.outcome import outcome


class Sums(torch.nn.Module):
    """Three classes, classified by the sums of three channels."""

    def forward(self, x: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        del lengths
        return x.sum(1)


def test_a_victim_without_class_names_gets_those_of_the_corpus() -> None:
    x = torch.eye(3).reshape(3, 1, 3) * 2
    batch = ss.FeatureBatch(x, torch.tensor([1, 1, 1]), ids=("a", "b", "c"))
    victim, labels = ss.wrap(Sums().eval()), torch.tensor([0, 1, 1])
    budget = ss.Budget(count=1, epsilon=3.0)
    result = ss.make_attack("oneshot")(victim, batch, labels, budget)
    rows = outcome(victim, batch, labels, budget, result, seconds=6.0, class_names=("angry", "sad"))
    assert rows["prediction_before"] == ["angry", "sad", "2"]
    assert rows["correct_before"] == [True, True, False]
    assert rows["success"][:2] == [before != after for before, after in zip(
        rows["prediction_before"][:2], rows["prediction_after"][:2], strict=True)]  # fmt: skip
    assert sum(rows["seconds"]) == 6.0
    assert rows["l0"][2] == 0
    assert set(rows) <= set(schema().names)
