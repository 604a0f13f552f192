"""The audit lets through what keeps the budget, and names what does not."""

from __future__ import annotations

import pytest
import torch

import sigma_ser as ss
from sigma_ser.core.audit import audit


@pytest.fixture
def batch() -> ss.FeatureBatch:
    x = torch.randn(2, 6, 4, generator=torch.Generator().manual_seed(0)) * 100
    return ss.FeatureBatch(x, torch.tensor([6, 4]), ["first", "second"])


SCALE = torch.tensor([1.0, 2.0, 0.5, 10.0])
BUDGET = ss.Budget(count=3, epsilon=0.5)


def _moved(batch: ss.FeatureBatch, places: list[tuple[int, int, int]], share: float = 1.0):
    x = batch.x.clone()
    for row, frame, channel in places:
        x[row, frame, channel] += share * 0.5 * SCALE[channel]
    return x


def test_a_perturbation_within_its_budget_passes(batch: ss.FeatureBatch) -> None:
    places = [(0, 0, 0), (0, 5, 3), (0, 2, 2), (1, 3, 1)]
    mask = torch.zeros_like(batch.x, dtype=torch.bool)
    for place in places:
        mask[place] = True
    audit(batch, _moved(batch, places), BUDGET, SCALE, mask)


@pytest.mark.parametrize(
    ("places", "share", "said"),
    [
        ([(1, 4, 0)], 1.0, "'second' changes padding"),
        ([(0, 0, 0)], 1.01, "'first' changes more than epsilon=0.5"),
        ([(1, 0, 0), (1, 1, 1), (1, 2, 2), (1, 3, 3)], 1.0, "budget of elements"),
        ([(0, 1, 1)], float("nan"), "is not finite"),
    ],
)
def test_every_fault_is_named(batch: ss.FeatureBatch, places, share, said) -> None:
    with pytest.raises(ss.errors.AuditError, match=said):
        audit(batch, _moved(batch, places, share), BUDGET, SCALE)


def test_a_change_outside_the_mask_is_named(batch: ss.FeatureBatch) -> None:
    mask = torch.zeros_like(batch.x, dtype=torch.bool)
    with pytest.raises(ss.errors.AuditError, match="outside its mask"):
        audit(batch, _moved(batch, [(0, 0, 0)]), BUDGET, SCALE, mask)


def test_units_are_counted_not_elements(batch: ss.FeatureBatch) -> None:
    frames = ss.Budget(count=4, granularity="frame", epsilon=0.5)
    audit(batch, _moved(batch, [(0, 2, c) for c in range(4)]), frames, SCALE)
    with pytest.raises(ss.errors.AuditError, match="budget of frames"):
        audit(batch, _moved(batch, [(0, 1, 0), (0, 2, 0)]), frames, SCALE)


def test_the_rounding_of_large_features_is_no_fault() -> None:
    x = torch.full((1, 1, 1), 1e4)
    budget, scale = ss.Budget(count=1, epsilon=0.1), torch.tensor([1e-2])
    audit(ss.FeatureBatch(x, torch.tensor([1])), x + 1e-3, budget, scale)
    with pytest.raises(ss.errors.AuditError):
        audit(ss.FeatureBatch(x, torch.tensor([1])), x + 1e-2, budget, scale)


def test_a_wrong_shape_is_refused(batch: ss.FeatureBatch) -> None:
    with pytest.raises(ss.errors.ShapeError):
        audit(batch, batch.x[:, :5], BUDGET, SCALE)
