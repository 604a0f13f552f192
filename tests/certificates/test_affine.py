"""Affine victims: the certificate is the smallest margin that brute force finds."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

import sigma_ser as ss
from sigma_ser.core.budget import Budget
from sigma_ser.core.errors import AttackError, CertificateError
from sigma_ser.core.features import FeatureBatch
from sigma_ser.testing.certificates import smallest_corner_margin
from sigma_ser.victims.heads import Linear, Superb
from sigma_ser.victims.victim import Standardised, WrappedVictim

Maker = Callable[..., WrappedVictim]
HEADS = {"linear": (Linear, {}), "superb": (Superb, {"hidden": 3})}


def predicted(victim: WrappedVictim, batch: FeatureBatch) -> Tensor:
    with torch.no_grad():
        return victim(batch.x, batch.lengths).argmax(1)


class SumOfFrames(nn.Linear):
    """An affine victim that this package does not know."""

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        return super().forward(x.sum(1))


class Rounded(Linear):
    """A linear head that hides small changes of its logits."""

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        return (super().forward(x, lengths) / 0.05).round() * 0.05


@pytest.mark.parametrize("head", HEADS)
def test_the_margin_is_the_smallest_one_of_all_corners(
    head: str, budget: Budget, mask: Tensor | None, batch: FeatureBatch, small_victim: Maker
) -> None:
    kind, settings = HEADS[head]
    victim = small_victim(kind, **settings)
    labels = predicted(victim, batch)
    bound = ss.certify(victim, batch, labels, budget, mask=mask)
    truth = smallest_corner_margin(victim, batch, labels, budget, mask)
    assert bound.method == "affine"
    assert bound.proven
    assert bool((bound.margin <= truth).all())
    assert torch.allclose(bound.margin, truth, rtol=0, atol=1e-5)
    assert torch.equal(bound.certified, bound.margin > 0)


def test_an_unknown_affine_victim_has_the_exact_bound_and_is_labelled_unproven(
    budget: Budget, batch: FeatureBatch
) -> None:
    torch.manual_seed(0)
    victim = ss.wrap(SumOfFrames(2, 3).eval(), scale=torch.tensor([0.5, 1.5]))
    labels = predicted(victim, batch)
    bound = ss.certify(victim, batch, labels, budget)
    truth = smallest_corner_margin(victim, batch, labels, budget, None)
    assert (bound.method, bound.proven) == ("affine-tested", False)
    assert bool((bound.margin <= truth).all())
    assert torch.allclose(bound.margin, truth, rtol=0, atol=2e-5)


@pytest.mark.parametrize(
    "module", [Rounded(2, 3), nn.Sequential(Linear(2, 3))[0]], ids=["subclass", "hook"]
)
def test_a_head_that_computes_something_else_is_not_certified_by_its_weights(
    module: nn.Module, batch: FeatureBatch
) -> None:
    if type(module) is Linear:
        module.register_forward_hook(lambda module, given, logits: logits.round())
    victim = ss.wrap(Standardised(module, torch.zeros(2), torch.ones(2)).eval())
    labels = predicted(victim, batch)
    bound = ss.certify(victim, batch, labels, Budget(count=2))
    assert bound.method == "none"
    assert not bool(bound.certified.any())
    assert bool((bound.margin == -torch.inf).all())
    with pytest.raises(CertificateError, match="does not suit"):
        ss.certify(victim, batch, labels, Budget(count=2), method="affine")


def test_logits_that_the_weights_do_not_explain_are_an_error(
    monkeypatch: pytest.MonkeyPatch, batch: FeatureBatch, small_victim: Maker
) -> None:
    victim = small_victim(Linear)
    labels = predicted(victim, batch)
    monkeypatch.setattr(Linear, "forward", lambda self, x, lengths: 3 * self.classify(x.mean(1)))
    with pytest.raises(CertificateError, match="something else than its layers"):
        ss.certify(victim, batch, labels, Budget(count=2))


def test_a_misclassified_utterance_has_a_negative_margin(
    batch: FeatureBatch, small_victim: Maker
) -> None:
    victim = small_victim(Linear)
    labels = predicted(victim, batch)
    bound = ss.certify(victim, batch, (labels + 1) % 3, Budget(count=1, epsilon=0.0))
    assert bool((bound.margin < 0).all())


def test_settings_need_a_method_and_labels_must_fit(
    batch: FeatureBatch, small_victim: Maker
) -> None:
    victim = small_victim(Linear)
    labels = predicted(victim, batch)
    with pytest.raises(CertificateError, match="need the name"):
        ss.certify(victim, batch, labels, Budget(count=1), samples=3)
    with pytest.raises(CertificateError, match="no setting 'samples'"):
        ss.certify(victim, batch, labels, Budget(count=1), method="affine", samples=3)
    with pytest.raises(AttackError, match="labels"):
        ss.certify(victim, batch, labels + 3, Budget(count=1))
