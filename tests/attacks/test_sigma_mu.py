"""sigma-mu: the explanation moves, the prediction stays."""

from __future__ import annotations

import pytest
import torch
from jaxtyping import TypeCheckError
from torch import Tensor, nn

import sigma_ser as ss
from sigma_ser.attacks.factory import make_attack
from sigma_ser.attacks.saliency_maps import DifferentiableMap
from sigma_ser.core.budget import Budget
from sigma_ser.core.errors import AttackError
from sigma_ser.core.features import FeatureBatch
from sigma_ser.victims.victim import WrappedVictim, wrap

BUDGET = Budget(sparsity=0.3, epsilon=1.0)


def cosines(
    victim: WrappedVictim, batch: FeatureBatch, x_adv: Tensor, labels: Tensor, name: str
) -> Tensor:
    """Cosine of the magnitudes of two maps, by the explainer of the package."""
    changed = FeatureBatch(x_adv, batch.lengths, batch.ids)
    maps = [ss.explain(name, victim, one, labels).abs().flatten(1) for one in (batch, changed)]
    return torch.cosine_similarity(*maps)


@pytest.mark.parametrize("saliency", ["gradient", "input-x-gradient"])
def test_the_explanation_moves_and_the_prediction_stays(
    conv_victim: WrappedVictim, utterances: tuple[FeatureBatch, Tensor], saliency: DifferentiableMap
) -> None:
    """The victim has a ReLU, so without its smooth copy `gradient` would have no slope."""
    batch, labels = utterances
    right = conv_victim(batch.x, batch.lengths).argmax(1) == labels
    result = ss.attack("sigma-mu", conv_victim, batch, labels, BUDGET, saliency=saliency)
    control = ss.attack("random", conv_victim, batch, labels, BUDGET)
    assert (result.prediction == conv_victim(batch.x, batch.lengths).argmax(1)).all()
    assert not result.success[right].any()
    moved = cosines(conv_victim, batch, result.x_adv, labels, saliency)[right]
    chance = cosines(conv_victim, batch, control.x_adv, labels, saliency)[right]
    assert moved.mean() < chance.mean() - 0.1


class Linear(nn.Linear):
    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        return super().forward(x.sum(1) / lengths[:, None])


def test_a_constant_map_does_not_move() -> None:
    torch.manual_seed(0)
    victim = wrap(Linear(6, 3).eval())
    batch = FeatureBatch(torch.randn(4, 5, 6), torch.tensor([5, 5, 4, 3]))
    labels = victim(batch.x, batch.lengths).argmax(1)
    result = ss.attack("sigma-mu", victim, batch, labels, BUDGET, saliency="gradient", steps=5)
    assert not result.success.any()
    moved = cosines(victim, batch, result.x_adv, labels, "gradient")
    torch.testing.assert_close(moved, torch.ones(4))


def test_input_x_gradient_of_a_linear_victim_has_its_closed_form() -> None:
    """`|w x|` moves to `|w (x + delta)|`: the cosine of any result is known."""
    torch.manual_seed(0)
    victim = wrap(Linear(6, 3).eval())
    batch = FeatureBatch(torch.randn(4, 5, 6), torch.tensor([5, 5, 4, 3]))
    labels = victim(batch.x, batch.lengths).argmax(1)
    result = ss.attack("sigma-mu", victim, batch, labels, BUDGET, steps=10)
    weight = victim.module.weight[labels][:, None].abs()  # type: ignore[union-attr, index]
    valid = batch.valid[:, :, None]
    maps = [(weight * x.abs() * valid).flatten(1) for x in (batch.x, result.x_adv)]
    expected = torch.cosine_similarity(*maps).detach()
    moved = cosines(victim, batch, result.x_adv, labels, "input-x-gradient")
    torch.testing.assert_close(moved, expected)
    assert moved.mean() < 0.97


def test_the_smooth_copy_leaves_the_victim_alone(
    conv_victim: WrappedVictim, utterances: tuple[FeatureBatch, Tensor]
) -> None:
    batch, labels = utterances
    before = conv_victim(batch.x, batch.lengths)
    ss.attack("sigma-mu", conv_victim, batch, labels, BUDGET, steps=2)
    assert torch.equal(before, conv_victim(batch.x, batch.lengths))


@pytest.mark.parametrize("name", ["weight", "reserve", "beta", "steps"])
def test_settings_are_checked(name: str) -> None:
    with pytest.raises(AttackError, match=name):
        make_attack("sigma-mu", **{name: -1})
    with pytest.raises((AttackError, TypeCheckError), match="saliency"):
        make_attack("sigma-mu", saliency="lime")
