"""Perturbed features are the float32 numbers inside the budget, whatever the clean ones are."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

import sigma_ser as ss
from sigma_ser.attacks.limits import ObservedRange, reachable, rounded_inside
from sigma_ser.core import registry
from sigma_ser.core.audit import audit
from sigma_ser.core.errors import AuditError
from sigma_ser.core.features import FeatureBatch
from sigma_ser.testing import example_settings

numbers = st.floats(-(2.0**100), 2.0**100, width=32)


@given(numbers, st.floats(0, 1e20), st.booleans())
def test_limits_are_the_outermost_numbers_of_float32(x: float, bound: float, two: bool) -> None:
    exact = torch.tensor([bound], dtype=torch.float64)
    low, high = reachable(torch.tensor([[[x]]]), exact[None, None] if two else exact, None)
    for limit, outside in ((high, np.inf), (low, -np.inf)):
        found = np.float32(float(limit))
        assert abs(float(found) - x) <= bound
        beyond = np.nextafter(found, np.float32(outside))
        # In exact arithmetic, because float64 may not tell the next number from the bound.
        assert not np.isfinite(beyond) or abs(float(beyond) - x) >= bound


def test_an_observed_range_is_a_limit_too() -> None:
    x = torch.tensor([[[0.0, 5.0, -5.0]]])
    box = ObservedRange(torch.full((3,), -0.3), torch.full((3,), 0.3))
    low, high = reachable(x, torch.ones(3, dtype=torch.float64), box)
    expected = torch.tensor([[[-0.3, 4.0, -5.0]]]), torch.tensor([[[0.3, 5.0, -4.0]]])
    assert torch.equal(low, expected[0])
    assert torch.equal(high, expected[1])


def test_only_rounding_is_repaired() -> None:
    low, high = torch.full((1, 1, 3), -1.0), torch.full((1, 1, 3), 1.0)
    moved = torch.tensor([[[0.5, 1.0 + 2e-7, 1.01]]])
    assert torch.equal(rounded_inside(moved, low, high), torch.tensor([[[0.5, 1.0, 1.01]]]))
    # The sum of a clean feature and a change is rounded in the place of the larger one.
    low, high = torch.full((1, 1, 1), -3.0), torch.full((1, 1, 1), 0.0)
    assert torch.equal(rounded_inside(torch.full((1, 1, 1), 1e-7), low, high), high)


class Shifted(nn.Module):
    """A victim of features around an offset that is large in units of scale."""

    def __init__(self, offset: float, scale: float) -> None:
        super().__init__()
        self.offset, self.unit = offset, scale
        self.out = nn.Linear(6, 3)

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        return self.out(((x - self.offset) / self.unit).sum(1) / lengths[:, None])


@pytest.mark.parametrize("name", registry.names("attack"))
@pytest.mark.parametrize(("offset", "scale", "epsilon"), [(300.0, 0.05, 0.1), (0.7, 1.3, 1.0)])
def test_every_attack_keeps_its_bound_exactly(
    name: str, offset: float, scale: float, epsilon: float
) -> None:
    # A past fault: features near 300 ended 1.00098 times their bound from the clean ones.
    torch.manual_seed(0)
    victim = ss.wrap(Shifted(offset, scale).eval(), mean=offset, scale=scale)
    x = offset + scale * torch.randn(4, 8, 6, generator=torch.Generator().manual_seed(5))
    batch = FeatureBatch(x, torch.full((4,), 8))
    labels = victim(batch.x, batch.lengths).argmax(1)
    budget = ss.Budget(sparsity=0.1, epsilon=epsilon)
    mask = ss.topk_mask(x.abs(), batch.lengths, budget)
    # With this mask every attack has elements to move, those without a selection too.
    result = ss.make_attack(name, max_passes=30, **example_settings(name))(
        victim, batch, labels, budget, mask=mask
    )
    change = (result.x_adv.double() - batch.x.double()).abs()
    assert change.max() > 0
    assert (change <= epsilon * victim.scale.double()).all()
    # The victim that decided saw just these features.
    assert torch.equal(victim(result.x_adv, batch.lengths).argmax(1), result.prediction)


def test_a_bound_below_the_resolution_of_float32_moves_nothing() -> None:
    victim = ss.wrap(Shifted(1e6, 0.1).eval(), mean=1e6, scale=0.1)
    batch = FeatureBatch(torch.full((2, 8, 6), 1e6), torch.tensor([8, 8]))
    labels = victim(batch.x, batch.lengths).argmax(1)
    result = ss.make_attack("dual-averaging")(victim, batch, labels, ss.Budget(sparsity=0.1))
    assert torch.equal(result.x_adv, batch.x)
    assert not result.success.any()


def test_a_sum_of_features_and_clipped_changes_is_clamped_to_what_the_audit_allows() -> None:
    """The advice of docs/extending.md: the sum alone may lie outside by the last bit."""
    x = 300 + 0.05 * torch.randn(4, 8, 6, generator=torch.Generator().manual_seed(5))
    batch, scale = FeatureBatch(x, torch.full((4,), 8)), torch.full((6,), 0.05)
    budget = ss.Budget(sparsity=1.0, epsilon=0.1)
    bound = budget.bound(scale)
    x_adv = x + torch.full_like(x, 9.0).clamp(-bound, bound)
    with pytest.raises(AuditError):
        audit(batch, x_adv, budget, scale, None)
    low, high = reachable(x, budget.bound(scale.double()), None)
    audit(batch, torch.clamp(x_adv, low, high), budget, scale, None)
