"""sigma-lambda: its weight trades success against explanation consistency."""

from __future__ import annotations

import pytest
import torch
from jaxtyping import TypeCheckError
from torch import Tensor, nn

from sigma_ser.attacks.factory import make_attack
from sigma_ser.attacks.sigma_lambda import DifferentiableMap, SigmaLambda
from sigma_ser.core.budget import Budget
from sigma_ser.core.errors import AttackError
from sigma_ser.core.features import FeatureBatch
from sigma_ser.victims.victim import WrappedVictim, wrap


def kept(victim: WrappedVictim, batch: FeatureBatch, x_adv: Tensor, labels: Tensor) -> Tensor:
    """Cosine of `|input x gradient|` before and after, by plain autograd."""
    maps = []
    for features in (batch.x, x_adv):
        x = features.clone().requires_grad_()
        score = victim(x, batch.lengths).gather(1, labels[:, None]).sum()
        maps.append((torch.autograd.grad(score, x)[0] * x).abs().detach().flatten(1))
    return torch.cosine_similarity(*maps)


def test_the_weight_preserves_explanations_and_success(
    conv_victim: WrappedVictim, utterances: tuple[FeatureBatch, Tensor]
) -> None:
    batch, labels = utterances
    budget = Budget(sparsity=0.3, epsilon=1.5)
    plain = make_attack("sigma-lambda", weight=0.0)(conv_victim, batch, labels, budget)
    careful = make_attack("sigma-lambda", weight=3.0)(conv_victim, batch, labels, budget)
    both = plain.success & careful.success
    assert both.any()
    assert (plain.success == careful.success).float().mean() > 0.8
    before = kept(conv_victim, batch, plain.x_adv, labels)[both].mean()
    after = kept(conv_victim, batch, careful.x_adv, labels)[both].mean()
    assert after > before + 0.02


class Recurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.rnn, self.out = nn.LSTM(6, 4, batch_first=True), nn.Linear(4, 3)

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        logits: Tensor = self.out(self.rnn(x)[0].sum(1) / lengths[:, None])
        return logits


class Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.mix, self.out = nn.MultiheadAttention(6, 2, batch_first=True), nn.Linear(6, 3)

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        mixed = torch.tanh(self.mix(x, x, x, need_weights=False)[0])
        logits: Tensor = self.out(mixed.sum(1) / lengths[:, None])
        return logits


@pytest.mark.parametrize("head", [Recurrent, Attention])
@pytest.mark.parametrize("saliency", ["gradient", "integrated-gradients"])
def test_second_derivatives_exist(head: type[nn.Module], saliency: DifferentiableMap) -> None:
    """Fused attention kernels have no second derivative and fail only in the backward pass."""
    torch.manual_seed(0)
    victim = wrap(head().eval())
    batch = FeatureBatch(torch.randn(2, 5, 6), torch.tensor([5, 5]))
    labels = victim(batch.x, batch.lengths).argmax(1)
    made = SigmaLambda(saliency=saliency, steps=3, path=2)
    result = made(victim, batch, labels, Budget(sparsity=0.5, epsilon=0.5))
    assert (result.steps > 0).all()


def test_settings_are_checked() -> None:
    with pytest.raises(AttackError, match="weight"):
        make_attack("sigma-lambda", weight=-1.0)
    # Under the type checker, a wrong literal does not even get to the attack's own check.
    with pytest.raises((AttackError, TypeCheckError), match="saliency"):
        make_attack("sigma-lambda", saliency="lime")
