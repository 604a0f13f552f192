"""Minimum-norm attacks: the smallest perturbation succeeds, and is small where that is known."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from sigma_ser.attacks.factory import make_attack
from sigma_ser.attacks.minimum_norm import MinimumNormAttack
from sigma_ser.core import registry
from sigma_ser.core.budget import Budget
from sigma_ser.core.errors import AttackError
from sigma_ser.core.features import FeatureBatch
from sigma_ser.victims.victim import WrappedVictim, wrap

NAMES = [
    name
    for name in registry.names("attack")
    if isinstance(made := registry.get("attack", name), type)
    and issubclass(made, MinimumNormAttack)
]


class Plane(torch.nn.Module):
    """`z_0 - z_1` is linear with a few large weights: the fewest elements are known."""

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        weight = torch.full(x.shape[1:], 0.1)
        weight[0, :3] = torch.tensor([4.0, -3.0, 2.0])
        score = (x * weight).sum((1, 2)) + 6.5
        return torch.stack([score, -score], 1)


@pytest.mark.parametrize("name", NAMES)
def test_the_minimum_of_a_plane(name: str) -> None:
    """`6.5 < 4 + 3`: two elements of size one suffice, one does not; at most three are found."""
    victim = wrap(Plane().eval())
    batch = FeatureBatch(torch.zeros(1, 4, 5), torch.tensor([4]))
    labels = torch.tensor([0])
    # The paper's overshoot of 3 goes further beyond the plane than this ball reaches.
    made = make_attack(name, **({"overshoot": 1.05} if name == "sparsefool" else {}))
    assert isinstance(made, MinimumNormAttack)
    result = made.minimum(victim, batch, labels, epsilon=1.0)
    size = int((result.x_adv != batch.x).sum())
    assert bool(result.success)
    assert 2 <= size <= 3
    assert bool(made(victim, batch, labels, Budget(count=3, epsilon=1.0)).success)
    impossible = made(victim, batch, labels, Budget(count=1, epsilon=1.0))
    assert not bool(impossible.success)


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_the_minimum_fools_and_serves_larger_budgets(
    name: str, conv_victim: WrappedVictim, utterances: tuple[FeatureBatch, Tensor]
) -> None:
    batch, labels = utterances
    made = make_attack(name)
    assert isinstance(made, MinimumNormAttack)
    result = made.minimum(conv_victim, batch, labels, epsilon=1.5)
    assert result.success.any()
    sizes = (result.x_adv != batch.x).flatten(1).sum(1)
    with torch.no_grad():
        predicted = conv_victim(result.x_adv, batch.lengths).argmax(1)
    assert torch.equal(predicted != labels, result.success)
    row = int(result.success.nonzero()[0])
    one = torch.tensor([row])
    enough = Budget(count=int(sizes[row]), epsilon=1.5)
    assert bool(made(conv_victim, batch.select(one), labels[one], enough).success)


def test_attacks_on_single_elements_refuse_frames(
    conv_victim: WrappedVictim, utterances: tuple[FeatureBatch, Tensor]
) -> None:
    batch, labels = utterances
    with pytest.raises(AttackError, match="cannot take whole frames"):
        make_attack("sparsefool")(
            conv_victim, batch, labels, Budget(sparsity=0.5, granularity="frame")
        )


def test_sigma_zero_measures_in_the_range_of_an_element() -> None:
    """The range is from -epsilon to epsilon, so an element moves by at most half of it.

    A past fault: with thresholds in units of epsilon, up to 40 points of success were lost.
    """
    victim = wrap(Plane().eval())
    batch, labels = FeatureBatch(torch.zeros(1, 4, 5), torch.tensor([4])), torch.tensor([0])
    found = [
        bool(
            make_attack("sigma-zero", threshold=threshold, threshold_step=1e-9)
            .minimum(victim, batch, labels, epsilon=1.0)
            .success
        )
        for threshold in (0.4, 0.6)
    ]
    assert found == [True, False]
