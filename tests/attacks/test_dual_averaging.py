"""Dual averaging: its first vertex, its gradient sum, and its rounds."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from sigma_ser.attacks.dual_averaging import DualAveraging
from sigma_ser.attacks.factory import make_attack
from sigma_ser.attacks.losses import margin
from sigma_ser.core.budget import Budget
from sigma_ser.core.errors import AttackError
from sigma_ser.core.features import FeatureBatch
from sigma_ser.victims.victim import WrappedVictim, wrap

BUDGET = Budget(sparsity=0.1, epsilon=0.3)


def reached(victim: WrappedVictim, batch: FeatureBatch, x_adv: Tensor, labels: Tensor) -> Tensor:
    with torch.no_grad():
        return margin(victim(x_adv, batch.lengths), labels)


def test_one_step_is_one_shot(
    conv_victim: WrappedVictim, utterances: tuple[FeatureBatch, Tensor]
) -> None:
    batch, labels = utterances
    one = DualAveraging(steps=1, rounds=1, losses=("margin",))(conv_victim, batch, labels, BUDGET)
    shot = make_attack("oneshot")(conv_victim, batch, labels, BUDGET)
    assert torch.equal(one.x_adv, shot.x_adv)
    assert torch.equal(one.forwards, shot.forwards)


def test_rounds_only_add(
    conv_victim: WrappedVictim, utterances: tuple[FeatureBatch, Tensor]
) -> None:
    """The best result is kept, so more rounds are never worse; passes grow with the rounds."""
    batch, labels = utterances
    short = DualAveraging(steps=3, rounds=1)(conv_victim, batch, labels, BUDGET)
    long = DualAveraging(steps=3, rounds=3)(conv_victim, batch, labels, BUDGET)
    before = reached(conv_victim, batch, short.x_adv, labels)
    after = reached(conv_victim, batch, long.x_adv, labels)
    assert (after >= before)[~short.success].all()
    assert (short.success <= long.success).all()
    resisted = ~long.success
    assert resisted.any()
    # Each run of 3 gradients has 3 backward and 3 forward passes and one final evaluation.
    assert short.backwards[resisted].unique().tolist() == [2 * 3]
    assert long.backwards[resisted].unique().tolist() == [6 * 3]
    assert long.forwards[resisted].unique().tolist() == [1 + 6 * 4]


def test_an_anchor_that_outweighs_all_stays_where_it_is(
    conv_victim: WrappedVictim, utterances: tuple[FeatureBatch, Tensor]
) -> None:
    batch, labels = utterances
    held = DualAveraging(steps=3, rounds=2, anchor=1e6)(conv_victim, batch, labels, BUDGET)
    one = DualAveraging(steps=3, rounds=1)(conv_victim, batch, labels, BUDGET)
    assert torch.equal(held.x_adv, one.x_adv)


class Near(nn.Module):
    """Class 1 where some frame is near 0.5 in every channel, which is inside the ball."""

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        del lengths
        score = 0.05 - (x - 0.5).square().mean(2).amin(1)
        return torch.stack([-score, score], dim=1)


def test_units_are_changed_inside_the_ball_too() -> None:
    victim = wrap(Near().eval())
    batch = FeatureBatch(torch.zeros(2, 6, 8), torch.tensor([6, 5]))
    labels = torch.zeros(2, dtype=torch.long)
    budget = Budget(sparsity=0.2, epsilon=1.0, granularity="frame")
    corners = make_attack("oneshot", loss="margin")(victim, batch, labels, budget)
    assert not corners.success.any()
    found = DualAveraging()(victim, batch, labels, budget)
    assert found.success.all()
    assert ((found.x_adv != 0).any(2).sum(1) == 1).all()
    assert (found.x_adv.abs() <= 1).all()


def test_settings_are_checked() -> None:
    with pytest.raises(AttackError, match="rounds of the attack 'dual-averaging' must be above 0"):
        DualAveraging(rounds=0)
    with pytest.raises(AttackError, match="losses must be one or more of"):
        DualAveraging(losses=())
