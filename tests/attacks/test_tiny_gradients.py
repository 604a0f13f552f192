"""Gradients near the smallest numbers of float32 lead to no NaN, and inference mode to no error."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

import sigma_ser as ss
from sigma_ser.core import registry
from sigma_ser.core.errors import VictimError
from sigma_ser.core.features import FeatureBatch
from sigma_ser.testing import example_settings
from sigma_ser.testing.units import Rescaled
from sigma_ser.victims.victim import WrappedVictim, wrap


class Confident(nn.Module):
    """Probabilities with gradients down to the smallest numbers of float32."""

    def __init__(self, gain: float, frames: int = 10) -> None:
        super().__init__()
        rng = torch.Generator().manual_seed(3)
        self.weight = nn.Parameter(gain * torch.randn(4, frames, 6, generator=rng))

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        return torch.einsum("btd,ctd->bc", x, self.weight[:, : x.shape[1]]).softmax(1)


@pytest.mark.parametrize("gain", [8.0, 20.0])
def test_homotopy_takes_steps_whose_squares_overflow(gain: float) -> None:
    # A past fault: an assertion about a selection among NaN, without a message.
    victim = wrap(Confident(gain).eval())
    x = torch.randn(24, 10, 6, generator=torch.Generator().manual_seed(5))
    batch = FeatureBatch(x, torch.full((24,), 10))
    labels = victim(batch.x, batch.lengths).argmax(1)
    result = ss.make_attack("homotopy")(victim, batch, labels, ss.Budget(sparsity=0.3, epsilon=1.0))
    assert torch.isfinite(result.x_adv).all()


@pytest.mark.parametrize("name", registry.names("attack"))
def test_no_attack_selects_among_nan_where_logits_are_extreme(
    name: str, conv_victim: WrappedVictim, utterances: tuple[FeatureBatch, Tensor]
) -> None:
    """Squares, inverses and exponentials of such logits and gradients overflow or underflow."""
    batch, labels = utterances[0].select(torch.tensor([0, 1])), utterances[1][:2]
    attack = ss.make_attack(name, max_passes=12, **example_settings(name))
    budget = ss.Budget(count=3, epsilon=0.2)
    mask = ss.topk_mask(batch.x.abs(), batch.lengths, budget)
    for victim in (
        Rescaled(conv_victim, 2.0**-60),
        Rescaled(conv_victim, 2.0**60),
        Rescaled(conv_victim, 2.0**-130),
        wrap(Confident(40.0, frames=9).eval()),
    ):
        labels = victim(batch.x, batch.lengths).argmax(1)
        result = ss.attack(attack, victim, batch, labels, budget, mask=mask)
        assert torch.isfinite(result.x_adv).all()
    with pytest.raises(VictimError, match="not finite"):
        attack(Rescaled(conv_victim, 2.0**130), batch, labels, budget, mask=mask)


@pytest.mark.parametrize("name", ["dual-averaging", "spgd", "sparse-rs", "homotopy", "sigma"])
def test_inference_mode_of_the_caller_or_of_the_encoder_changes_nothing(
    name: str, conv_victim: WrappedVictim, utterances: tuple[FeatureBatch, Tensor]
) -> None:
    # A past fault: "no gradient reaches the features", of any victim.
    batch, labels = utterances
    sigma = name == "sigma"
    attack = ss.Sigma("gradient", "oneshot", 4) if sigma else ss.make_attack(name, max_passes=60)
    budget = ss.Budget(count=5, epsilon=1.0)
    expected = attack(conv_victim, batch, labels, budget)
    with torch.inference_mode():
        encoded = FeatureBatch(batch.x * 1.0, batch.lengths + 0, batch.ids)
        predicted = conv_victim(encoded.x, encoded.lengths).argmax(1)
        inside = ss.attack(attack, conv_victim, encoded, predicted, budget)
        mask = torch.ones_like(batch.x) > 0
    outside = attack(conv_victim, encoded, predicted, budget)
    for found in (inside, outside):
        assert torch.equal(found.x_adv, expected.x_adv)
        assert torch.equal(found.success, expected.success)
        assert not found.x_adv.is_inference()
    if not sigma:
        masked = attack(conv_victim, encoded, predicted, budget, mask=mask)
        assert torch.equal(masked.x_adv, expected.x_adv)
