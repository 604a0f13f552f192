"""The audit lets through what keeps the budget, and names what does not."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from jaxtyping import TypeCheckError

import sigma_ser as ss
from sigma_ser.core.audit import audit


@pytest.fixture
def batch() -> ss.FeatureBatch:
    x = torch.randn(2, 6, 4, generator=torch.Generator().manual_seed(0)) * 100
    return ss.FeatureBatch(x, torch.tensor([6, 4]), ["first", "second"])


SCALE = torch.tensor([1.0, 2.0, 0.5, 10.0])
BUDGET = ss.Budget(count=3, epsilon=0.5)


def _moved(batch: ss.FeatureBatch, places: list[tuple[int, int, int]], share: float = 1.0):
    """Elements at a share of their bound, rounded towards the clean ones."""
    x = batch.x.clone()
    for row, frame, channel in places:
        clean, bound = float(x[row, frame, channel]), 0.5 * share * float(SCALE[channel])
        moved = np.float32(clean + bound)
        if float(moved) - clean > bound:
            moved = np.nextafter(moved, np.float32(clean))
        x[row, frame, channel] = float(moved)
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


@pytest.mark.parametrize("clean", [0.0, 1e-8, 0.3, 299.7, -3e4, 1e6])
def test_the_bound_has_no_tolerance(clean: float) -> None:
    # A past fault: two units in the last place were allowed, 0.1 % of the bound at features of 300.
    budget, scale = ss.Budget(count=1, epsilon=0.1), torch.tensor([0.05])
    x = np.float32(clean)
    bound = 0.1 * float(scale[0])
    batch = ss.FeatureBatch(torch.tensor([[[float(x)]]]), torch.tensor([1]))
    moved = np.float32(float(x) + bound)
    while float(moved) - float(x) > bound:
        moved = np.nextafter(moved, x)
    beyond = np.nextafter(moved, np.float32(np.inf))
    audit(batch, torch.tensor([[[float(moved)]]]), budget, scale)
    with pytest.raises(ss.errors.AuditError, match=r"more than epsilon=0\.1"):
        audit(batch, torch.tensor([[[float(beyond)]]]), budget, scale)


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("x_adv", lambda x: x.double()),
        ("x_adv", lambda x: x.half()),
        ("x_adv", lambda x: x.numpy()),
        ("x_adv", lambda x: x[:, :5]),
        ("mask", lambda x: (x > 0).float()),
        ("mask", lambda x: (x > 0).long()),
        ("mask", lambda x: x[:1] > 0),
        ("mask", lambda x: x[:, :, 0] > 0),
        ("mask", lambda x: (x > 0).tolist()),
    ],
)
def test_other_types_and_shapes_are_refused_in_one_sentence(
    batch: ss.FeatureBatch, name: str, change: Callable[[torch.Tensor], Any]
) -> None:
    given = {"x_adv": batch.x, "mask": None} | {name: change(batch.x)}
    with pytest.raises((ss.errors.ShapeError, TypeCheckError), match=name) as caught:
        audit(batch, given["x_adv"], BUDGET, SCALE, given["mask"])
    if isinstance(caught.value, ss.errors.ShapeError):
        assert "\n" not in str(caught.value)
        assert "(2, 6, 4)" in str(caught.value)


def test_the_box_of_a_victim_is_checked() -> None:
    x = torch.tensor([[0.9, -0.9, 1.3]])[:, :, None]
    batch, budget, scale = (
        ss.FeatureBatch(x, torch.tensor([3])),
        ss.Budget(sparsity=1.0, epsilon=5.0),
        SCALE[:1],
    )
    for place, values in enumerate([(0.5, 1.0), (-1.0, 0.0), (1.3, 1.2, 0.9)]):
        for value in values:
            moved = x.clone()
            moved[0, place] = value
            audit(batch, moved, budget, scale, box=(-1, 1))
    for place, value in enumerate([1.0001, -1.0001, 1.31]):
        moved = x.clone()
        moved[0, place] = value
        audit(batch, moved, budget, scale)
        with pytest.raises(ss.errors.AuditError, match=r"leaves the box \(-1, 1\)"):
            audit(batch, moved, budget, scale, box=(-1, 1))
