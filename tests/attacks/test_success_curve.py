"""The smallest budget of each utterance, where it is known and against single runs."""

from __future__ import annotations

import pytest
import torch
from jaxtyping import TypeCheckError
from torch import Tensor, nn

from sigma_ser.attacks.factory import make_attack
from sigma_ser.attacks.sigma import Sigma
from sigma_ser.attacks.success_curve import success_curve
from sigma_ser.core.audit import audit
from sigma_ser.core.budget import GRANULARITIES, Budget
from sigma_ser.core.errors import AttackError, BudgetError
from sigma_ser.core.features import FeatureBatch, valid_frames
from sigma_ser.victims.victim import WrappedVictim, wrap


class Sum(nn.Module):
    """`z_0 - z_1 = 2 (bias - sum x)` of each utterance: everything is known."""

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        valid = valid_frames(lengths, x.shape[1])[:, :, None]
        left = 7.5 - (x * valid).sum((1, 2))
        return torch.stack([left, -left], 1)


LENGTHS = torch.tensor([4, 6, 1, 6])
ZEROS = FeatureBatch(torch.zeros(4, 6, 3), LENGTHS, ["a", "b", "c", "d"])


def labels_of_sum() -> Tensor:
    return torch.tensor([0, 0, 0, 1])  # the last one is misclassified on the clean input


def test_the_fewest_units_of_a_sum() -> None:
    """7.5 in steps of 1 takes 8 elements; one frame of 3 elements cannot; one was wrong before."""
    victim = wrap(Sum().eval())
    curve = success_curve(make_attack("oneshot"), victim, ZEROS, labels_of_sum(), epsilon=1.0)
    assert curve.smallest.tolist() == [8, 8, torch.inf, 0]
    assert curve.success.tolist() == [True, True, False, True]
    assert curve.at([0, 7, 8, 18]).tolist() == [0.25, 0.25, 0.75, 0.75]
    assert torch.equal((curve.x_adv != 0).flatten(1).sum(1), torch.tensor([8, 8, 0, 0]))
    frames = success_curve(
        make_attack("oneshot"), victim, ZEROS, labels_of_sum(), epsilon=1.0, granularity="frame"
    )
    assert frames.smallest.tolist() == [3, 3, torch.inf, 0]


def test_the_smallest_epsilon_of_a_sum() -> None:
    victim = wrap(Sum().eval(), scale=0.5)
    curve = success_curve(
        make_attack("oneshot"), victim, ZEROS, labels_of_sum(),
        minimise="epsilon", epsilon=20.0, sparsity=0.5, tolerance=0.02,
    )  # fmt: skip
    known = torch.tensor([15 / 6, 15 / 9, 15 / 1, 0.0])
    assert (curve.smallest >= known * (1 - 1e-6)).all()
    assert (curve.smallest <= known * 1.021).all()


@pytest.mark.slow
@pytest.mark.parametrize("granularity", GRANULARITIES)
@pytest.mark.parametrize("minimise", ["sparsity", "epsilon"])
def test_a_curve_is_what_single_budgets_say(
    minimise: str,
    granularity: str,
    conv_victim: WrappedVictim,
    utterances: tuple[FeatureBatch, Tensor],
) -> None:
    """The result does not depend on the batch, and each budget holds in a run of its own."""
    batch, labels = utterances
    settings = {
        "minimise": minimise,
        "epsilon": 1.5,
        "sparsity": 0.5,
        "segment_frames": 2,
        "tolerance": 0.2,
    }
    made = make_attack("dual-averaging", steps=3, losses=("margin",))
    curve = success_curve(made, conv_victim, batch, labels, granularity=granularity, **settings)
    assert curve.success.any()
    assert torch.equal(conv_victim(curve.x_adv, batch.lengths).argmax(1) != labels, curve.success)
    for row in (0, 3):
        one = torch.tensor([row])
        alone = success_curve(
            made, conv_victim, batch.select(one), labels[one], granularity=granularity, **settings
        )
        torch.testing.assert_close(alone.smallest[0], curve.smallest[row])
        assert alone.forwards[0] == curve.forwards[row]
        if curve.success[row] and minimise == "epsilon":
            budget = Budget(
                sparsity=0.5, epsilon=float(curve.smallest[row]), granularity=granularity,
                segment_frames=2,
            )  # fmt: skip
            audit(batch.select(one), alone.x_adv, budget, conv_victim.scale)


def test_masks_targets_sigma_and_minimum_norm_attacks(
    conv_victim: WrappedVictim, utterances: tuple[FeatureBatch, Tensor]
) -> None:
    batch, labels = utterances
    mask = torch.rand(batch.x.shape, generator=torch.Generator().manual_seed(0)) < 0.7
    target = (labels + 1) % 3
    curve = success_curve(
        make_attack("oneshot"), conv_victim, batch, labels,
        epsilon=4.0, mask=mask, target=target,
    )  # fmt: skip
    assert curve.success.any()
    predicted = conv_victim(curve.x_adv, batch.lengths).argmax(1)
    assert torch.equal(predicted == target, curve.success)
    assert not ((curve.x_adv != batch.x) & ~mask).any()
    sigma = Sigma("random", make_attack("pgd", steps=5))
    masked = success_curve(sigma, conv_victim, batch, labels, epsilon=1.5)
    free = success_curve(make_attack("oneshot"), conv_victim, batch, labels, epsilon=1.5)
    assert (free.smallest <= masked.smallest).float().mean() > 0.8
    made = make_attack("sigma-zero", steps=20)
    smallest = success_curve(made, conv_victim, batch, labels, epsilon=1.5)
    known = made.minimum(conv_victim, batch, labels, epsilon=1.5)
    assert torch.equal(smallest.success, known.success)
    assert torch.equal(smallest.x_adv, torch.where(
        known.success[:, None, None], known.x_adv, batch.x
    ))  # fmt: skip
    assert torch.equal(smallest.forwards, known.forwards)


def test_what_cannot_be_searched_is_refused(
    conv_victim: WrappedVictim, utterances: tuple[FeatureBatch, Tensor]
) -> None:
    batch, labels = utterances
    run = make_attack("oneshot")
    with pytest.raises((AttackError, TypeCheckError), match="minimise"):
        success_curve(run, conv_victim, batch, labels, minimise="k")
    with pytest.raises(AttackError, match="tolerance"):
        success_curve(run, conv_victim, batch, labels, tolerance=0.0)
    with pytest.raises(BudgetError, match="epsilon"):
        success_curve(run, conv_victim, batch, labels, minimise="epsilon", epsilon=0.0)
