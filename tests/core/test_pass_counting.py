"""Every forward and backward pass is booked to the utterance that asked for it."""

from __future__ import annotations

import pytest
import torch

import sigma_ser as ss
from sigma_ser.core.contracts import Victim
from sigma_ser.core.passes import CountedVictim, per_channel


class Mean(torch.nn.Linear):
    def forward(self, x: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        return super().forward(x.sum(1) / lengths[:, None])


@pytest.fixture
def counted() -> CountedVictim:
    batch = ss.FeatureBatch(torch.randn(3, 4, 2), torch.tensor([4, 3, 2]))
    return CountedVictim(ss.wrap(Mean(2, 3).eval(), scale=2.0), batch)


def test_passes_go_to_the_owner_of_a_row(counted: CountedVictim) -> None:
    x = torch.randn(4, 4, 2, requires_grad=True)
    owner = torch.tensor([0, 2, 2, 2])
    logits = counted(x, torch.full((4,), 4), owner)
    assert counted.forwards.tolist() == [1, 0, 3]
    assert counted.backwards.tolist() == [0, 0, 0]
    logits.sum().backward()
    assert counted.backwards.tolist() == [1, 0, 3]


def test_no_gradient_no_backward_pass(counted: CountedVictim) -> None:
    counted(torch.randn(3, 4, 2), torch.full((3,), 4))
    assert counted.forwards.tolist() == [1, 1, 1]
    assert counted.backwards.tolist() == [0, 0, 0]


def test_a_counted_victim_is_a_victim_and_answers_alike(counted: CountedVictim) -> None:
    assert isinstance(counted, Victim)
    x, lengths = torch.randn(3, 4, 2), torch.tensor([4, 3, 2])
    assert torch.equal(counted(x, lengths), counted.victim(x, lengths))
    assert counted.scale.tolist() == [2.0, 2.0]


def test_a_victim_of_another_width_is_refused() -> None:
    with pytest.raises(ss.errors.ShapeError, match=r"has .* channels but the features have 2"):
        per_channel(torch.ones(3), torch.zeros(1, 1, 2))
