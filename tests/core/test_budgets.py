"""Laws of the budget: exact counts, units that tile an utterance, impossible budgets refused."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from jaxtyping import TypeCheckError

import sigma_ser as ss
from sigma_ser.core.budget import GRANULARITIES
from sigma_ser.core.features import valid_frames

lengths_lists = st.lists(st.integers(1, 40), min_size=1, max_size=4)


@given(lengths_lists, st.integers(1, 9), st.floats(1e-4, 1), st.sampled_from(GRANULARITIES))
def test_units_follow_the_definition(lengths, channels, sparsity, granularity) -> None:
    budget = ss.Budget(sparsity=sparsity, granularity=granularity)
    t = torch.tensor(lengths)
    available = {
        "element": t * channels,
        "frame": t,
        "channel": torch.full_like(t, channels),
        "segment": (t // 10).clamp(min=1),
    }[granularity]
    expected = [max(1, math.floor(sparsity * n + 1e-9)) for n in available.tolist()]
    assert budget.units(t, channels).tolist() == expected
    assert budget.available(t, channels).tolist() == available.tolist()


@given(lengths_lists, st.integers(1, 6), st.sampled_from(GRANULARITIES), st.integers(1, 7))
def test_units_tile_the_valid_elements(lengths, channels, granularity, segment_frames) -> None:
    budget = ss.Budget(sparsity=0.5, granularity=granularity, segment_frames=segment_frames)
    t = torch.tensor(lengths)
    shape = torch.Size((len(lengths), max(lengths), channels))
    valid = valid_frames(t, shape[1])[:, :, None].expand(shape)
    # Each unit alone; together they cover every valid element once, and no padding.
    covered = torch.zeros(shape)
    available = budget.available(t, channels)
    slots = budget.unit_allowed(None, t, shape)
    assert slots.sum(1).tolist() == available.tolist()
    for unit in range(slots.shape[1]):
        one = torch.zeros_like(slots)
        one[:, unit] = slots[:, unit]
        elements = budget.expand(one, t, shape)
        assert budget.touched(elements, t).tolist() == slots[:, unit].long().tolist()
        covered += elements
    assert torch.equal(covered, valid.float())


@given(lengths_lists, st.integers(1, 6), st.sampled_from(GRANULARITIES), st.floats(0.01, 1))
def test_k_bounds_the_elements_of_any_choice_of_units(
    lengths, channels, granularity, sparsity
) -> None:
    budget = ss.Budget(sparsity=sparsity, granularity=granularity)
    t = torch.tensor(lengths)
    shape = torch.Size((len(lengths), max(lengths), channels))
    slots = budget.unit_allowed(None, t, shape)
    units, k = budget.units(t, channels), budget.elements(t, channels)
    last = slots & (slots.flip(1).cumsum(1).flip(1) <= units[:, None])
    assert (budget.expand(last, t, shape).sum((1, 2)) <= k).all()
    if granularity != "segment":
        assert budget.expand(last, t, shape).sum((1, 2)).tolist() == k.tolist()


def test_a_count_is_one_of_elements() -> None:
    t = torch.tensor([10, 12])
    assert ss.Budget(count=25, granularity="frame").units(t, 8).tolist() == [3, 3]
    assert ss.Budget(count=25, granularity="channel").units(t, 8).tolist() == [2, 2]
    assert ss.Budget(count=25).units(t, 8).tolist() == [25, 25]
    with pytest.raises(ss.errors.BudgetError, match="less than one frame"):
        ss.Budget(count=7, granularity="frame").units(t, 8)
    with pytest.raises(ss.errors.BudgetError, match="more than the shortest utterance has"):
        ss.Budget(count=81).units(t, 8)


def test_only_fully_masked_units_qualify() -> None:
    t = torch.tensor([3])
    mask = torch.ones(1, 4, 2, dtype=torch.bool)
    mask[0, 1, 0] = False
    budget = ss.Budget(sparsity=1.0, granularity="frame")
    assert budget.unit_allowed(mask, t, mask.shape).tolist() == [[True, False, True, False]]


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"sparsity": 0.1, "count": 3},
        {"sparsity": 0.0},
        {"sparsity": 1.1},
        {"count": 0},
        {"sparsity": 5.0},
        {"sparsity": 0.1, "epsilon": -1.0},
        {"sparsity": 0.1, "epsilon": math.inf},
        {"sparsity": 0.1, "epsilon": math.nan},
        {"sparsity": 0.1, "granularity": "segment", "segment_frames": 0},
    ],
)
def test_impossible_budgets_are_refused(values: dict) -> None:
    with pytest.raises(ss.errors.BudgetError):
        ss.Budget(**values)


@pytest.mark.parametrize(
    "values",
    [
        {"sparsity": "1%"},
        {"count": "9"},
        {"epsilon": "0.5"},
        {"sparsity": [0.1]},
        {"count": 1.5},
        {"sparsity": 0.1, "epsilon": None},
    ],
)
def test_text_is_no_budget(values: dict) -> None:
    with pytest.raises((ss.errors.BudgetError, TypeCheckError), match=r"in numbers|Budget"):
        ss.Budget(**{"sparsity": None if "count" in values else 0.1, **values})


def test_epsilon_per_channel() -> None:
    budget = ss.Budget(sparsity=0.1, epsilon=torch.tensor([0.0, 1.0, 2.0]))
    assert budget.bound(torch.tensor([1.0, 2.0, 3.0])).tolist() == [0.0, 2.0, 6.0]
    with pytest.raises(ss.errors.BudgetError, match="3 channels, the features have 2"):
        budget.bound(torch.ones(2))


def test_each_utterance_may_have_a_budget_of_its_own():
    """What a bisection needs: it is the same as one budget after the other."""
    lengths, scale = torch.tensor([4, 2]), torch.tensor([1.0, 2.0, 0.5])
    own = ss.Budget(count=torch.tensor([5, 2]), epsilon=torch.tensor([[0.5], [2.0]]))
    for row, (count, epsilon) in enumerate([(5, 0.5), (2, 2.0)]):
        alone = ss.Budget(count=count, epsilon=epsilon)
        assert own.units(lengths, 3)[row] == alone.units(lengths, 3)[row]
        torch.testing.assert_close(own.bound(scale)[row, 0], alone.bound(scale))
    with pytest.raises(ss.errors.BudgetError, match="2 utterances, the batch has 1"):
        own.units(lengths[:1], 3)
    with pytest.raises(ss.errors.BudgetError, match="channels"):
        ss.Budget(count=1, epsilon=torch.ones(2, 4)).bound(scale)
    with pytest.raises(ss.errors.BudgetError, match="at least 1"):
        ss.Budget(count=torch.tensor([3, 0]))


def test_epsilon_for_another_number_of_utterances_is_refused() -> None:
    # A past fault: the first rows were used where the batch was smaller than the budget.
    budget = ss.Budget(sparsity=0.5, epsilon=torch.ones(3, 1))
    with pytest.raises(ss.errors.BudgetError, match=r"epsilon is given for 3 utterances.* has 2"):
        budget.units(torch.tensor([4, 2]), 3)


@pytest.mark.parametrize("granularity", ["element", "segment", "channel"])
@pytest.mark.parametrize("sparsity", [0.03, 0.5, 1.0])
def test_a_full_corner_of_a_budget_from_a_ratio_has_this_ratio(granularity, sparsity) -> None:
    rng = torch.Generator().manual_seed(0)
    x = torch.randn(3, 700, 1, generator=rng) * torch.tensor([0.01, 0.1, 0.3])[:, None, None]
    waves = ss.FeatureBatch(x, torch.tensor([700, 333, 512]))
    budget = ss.Budget.from_snr(
        waves, snr=30, sparsity=sparsity, granularity=granularity, segment_frames=50
    )
    changed = budget.elements(waves.lengths, 1)
    energy = waves.x.double().square().sum((1, 2))
    ratio = 10 * (energy / (changed * budget.epsilon[:, 0].square())).log10()
    torch.testing.assert_close(ratio, torch.full((3,), 30.0).double(), atol=1e-9, rtol=0.0)
    alone = ss.Budget.from_snr(
        waves.select(torch.tensor([1])), 30, sparsity,
        granularity=granularity, segment_frames=50,
    )  # fmt: skip
    assert torch.equal(alone.epsilon[0], budget.epsilon[1])


def test_a_ratio_needs_waves() -> None:
    features = ss.FeatureBatch(torch.ones(1, 4, 2), torch.tensor([4]))
    with pytest.raises(ss.errors.BudgetError, match=r"needs waves \(B, S, 1\)"):
        ss.Budget.from_snr(features)
    with pytest.raises(ss.errors.BudgetError, match="finite ratio"):
        ss.Budget.from_snr(ss.FeatureBatch(torch.ones(1, 4, 1), torch.tensor([4])), snr=math.nan)
    silent = ss.Budget.from_snr(ss.FeatureBatch(torch.zeros(1, 4, 1), torch.tensor([4])))
    assert silent.epsilon.tolist() == [[0.0]]
