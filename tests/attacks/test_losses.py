"""Losses against those of torch and against their definitions."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from sigma_ser.attacks.losses import (
    LOSSES,
    cross_entropy,
    cw_hinge,
    difference_of_logits_ratio,
    margin,
    spread_factor,
)

LOGITS = torch.randn(50, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
LABELS = torch.arange(50) % 5
TARGET = (LABELS + 1 + torch.arange(50) % 4) % 5


def test_margin_is_above_zero_exactly_where_the_attack_succeeds() -> None:
    prediction = LOGITS.argmax(1)
    assert torch.equal(margin(LOGITS, LABELS) > 0, prediction != LABELS)
    assert torch.equal(margin(LOGITS, LABELS, TARGET) > 0, prediction == TARGET)


def test_margin_is_torchs_multi_margin_of_one_rival() -> None:
    two = LOGITS[:, :2]
    labels = LABELS % 2
    reference = [functional.multi_margin_loss(z[None], y[None], margin=0.0) * 2
                 for z, y in zip(two, labels, strict=True)]  # fmt: skip
    torch.testing.assert_close(margin(two, labels).clamp(min=0), torch.stack(reference))


def test_cross_entropy_rises_away_from_the_label_and_towards_the_target() -> None:
    torch.testing.assert_close(
        cross_entropy(LOGITS, LABELS), -LOGITS.log_softmax(1)[range(50), LABELS]
    )
    torch.testing.assert_close(
        cross_entropy(LOGITS, LABELS, TARGET), LOGITS.log_softmax(1)[range(50), TARGET]
    )


def test_difference_of_logits_ratio_is_invariant_to_scale_and_shift() -> None:
    """Croce & Hein 2020, section 4.2: invariant, where cross-entropy vanishes."""
    for target in (None, TARGET):
        value = difference_of_logits_ratio(LOGITS, LABELS, target)
        torch.testing.assert_close(
            value, difference_of_logits_ratio(30 * LOGITS + 7, LABELS, target)
        )
    ordered = torch.tensor([[5.0, 4.0, 2.0, 1.0, 0.0]])
    label, target = torch.tensor([0]), torch.tensor([3])
    assert difference_of_logits_ratio(ordered, label).item() == pytest.approx(-1 / 3)
    assert difference_of_logits_ratio(ordered, label, target).item() == pytest.approx(-4 / 3.5)


@pytest.mark.parametrize(("classes", "targeted"), [(2, False), (2, True), (3, True)])
def test_the_ratio_is_the_margin_where_it_would_be_constant(classes: int, targeted: bool) -> None:
    # The smallest logit replaced the missing ones: numerator and denominator were the same.
    logits = LOGITS[:, :classes].clone().requires_grad_()
    labels = logits.argmax(1)
    target = (labels + 1) % classes if targeted else None
    value = difference_of_logits_ratio(logits, labels, target)
    assert torch.equal(value, margin(logits, labels, target))
    (gradient,) = torch.autograd.grad(value.sum(), logits)
    assert (gradient.abs().amax(1) > 0).all()


def test_three_classes_have_a_ratio() -> None:
    ordered = torch.tensor([[5.0, 4.0, 1.0]])
    assert difference_of_logits_ratio(ordered, torch.tensor([0])).item() == pytest.approx(-1 / 4)


def test_the_factor_is_a_power_of_two_that_gives_every_utterance_the_same_spread() -> None:
    for exponent in (-100, -20, 0, 20, 100):
        logits = (LOGITS.float() + 3).ldexp(torch.tensor(exponent))
        factor = spread_factor(logits)
        spread = factor * (logits.amax(1) - logits.amin(1))
        assert ((spread >= 4) & (spread < 8)).all()
        assert (torch.frexp(factor).mantissa == 0.5).all()
        torch.testing.assert_close(
            logits * factor[:, None], (LOGITS.float() + 3) * spread_factor(LOGITS + 3)[:, None]
        )


@pytest.mark.parametrize("logit", [0.0, 1e-45, 1e-30, 3e38])
def test_the_factor_of_extreme_logits_is_finite(logit: float) -> None:
    factor = spread_factor(torch.tensor([[logit, -logit, 0.0]]))
    assert torch.isfinite(factor).all()
    assert (factor > 0).all()
    assert logit or factor.item() == 1


def test_hinge_stops_at_success() -> None:
    assert (cw_hinge(LOGITS, LABELS) <= 0).all()
    failed = LOGITS.argmax(1) == LABELS
    assert torch.equal(cw_hinge(LOGITS, LABELS)[failed], margin(LOGITS, LABELS)[failed])


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("targeted", [False, True])
def test_a_small_step_along_the_gradient_helps(name: str, targeted: bool) -> None:
    target = TARGET if targeted else None
    logits = LOGITS.clone().requires_grad_()
    LOSSES[name](logits, LABELS, target).sum().backward()
    assert logits.grad is not None
    with torch.no_grad():
        before = LOSSES[name](logits, LABELS, target)
        after = LOSSES[name](logits + 1e-6 * logits.grad, LABELS, target)
    assert (after >= before - 1e-12).all()
    assert (after > before).any()
