"""The box of a victim is a pair of numbers, wherever the victim comes from."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from jaxtyping import TypeCheckError
from torch import nn

import sigma_ser as ss
from sigma_ser.core.box import box_of
from sigma_ser.evaluate.consistency.floor import random_perturbation


class Mean(nn.Module):
    """Two classes by the sign of the mean."""

    def forward(self, x: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        mean = x.sum((1, 2)) / lengths
        return torch.stack([mean, -mean], 1)


def test_a_wrapped_module_has_the_box_that_it_was_given() -> None:
    assert ss.wrap(Mean().eval(), box=(-1, 1)).box == (-1.0, 1.0)
    assert ss.wrap(Mean().eval()).box is None


@pytest.mark.parametrize("box", [(1, -1), (0, 0), (0,), 3, ("a", "b"), (float("nan"), 1)])
def test_other_boxes_are_refused(box: Any) -> None:
    with pytest.raises((ss.errors.VictimError, TypeCheckError), match="box"):
        ss.wrap(Mean().eval(), box=box)
    victim = ss.wrap(Mean().eval())
    victim.box = box
    with pytest.raises(ss.errors.VictimError, match=r"a pair \(smallest, largest value\)"):
        box_of(victim)


def test_random_perturbations_stay_in_the_box_too() -> None:
    batch = ss.FeatureBatch(torch.full((2, 30, 1), 0.9), torch.tensor([30, 12]))
    victim, budget = ss.wrap(Mean().eval(), box=(-1, 1)), ss.Budget(sparsity=0.5, epsilon=0.5)
    x_adv = random_perturbation(victim, batch, budget)
    ss.audit(batch, x_adv, budget, torch.ones(1), box=victim.box)
    assert x_adv.amax() == 1
    assert x_adv.amin() < 0.5
