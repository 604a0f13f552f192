"""Masks of maps: exactly k units, ties by position, whole units, nothing on padding."""

from __future__ import annotations

import itertools

import pytest
import torch
from jaxtyping import TypeCheckError

from sigma_ser.core.budget import GRANULARITIES, Budget
from sigma_ser.core.contracts import Explanation
from sigma_ser.core.errors import BudgetError, ExplainerError, ShapeError
from sigma_ser.core.features import FeatureBatch
from sigma_ser.explainers.explanation import explanation, make_explainer
from sigma_ser.masks.topk import explainer_mask, topk_mask
from sigma_ser.victims.victim import wrap

LENGTHS = torch.tensor([23, 7, 15])
SALIENCY = torch.randn(3, 23, 5, generator=torch.Generator().manual_seed(0))


def by_sorting(saliency, length, budget, scope):
    """The same mask for one utterance by plain Python: sort the units, take the first."""
    a = saliency[:length].abs().double()
    size = budget.segment_frames
    frames = [[(t, d) for d in range(a.shape[1])] for t in range(length)]
    match budget.granularity:
        case "element":
            units = [[cell] for cell in itertools.chain.from_iterable(frames)]
        case "frame":
            units = frames
        case "channel":
            units = [[(t, d) for t in range(length)] for d in range(a.shape[1])]
        case "segment":
            starts = [size * i for i in range(max(1, length // size))]
            ends = [*starts[1:], length]
            units = [
                list(itertools.chain.from_iterable(frames[s:e]))
                for s, e in zip(starts, ends, strict=True)
            ]
    order = sorted(range(len(units)), key=lambda u: -sum(float(a[c]) for c in units[u]))
    chosen = max(1, int(budget.sparsity * len(units) + 1e-9))
    mask = torch.zeros_like(saliency, dtype=torch.bool)
    for unit in order[: min(scope * chosen, len(units))]:
        for cell in units[unit]:
            mask[cell] = True
    return mask


@pytest.mark.parametrize("scope", [1, 3, 100])
@pytest.mark.parametrize("granularity", GRANULARITIES)
def test_the_mask_equals_that_of_a_sort(granularity, scope):
    budget = Budget(sparsity=0.2, granularity=granularity, segment_frames=4)
    mask = topk_mask(SALIENCY, LENGTHS, budget, scope)
    for row, length in enumerate(LENGTHS.tolist()):
        assert torch.equal(mask[row], by_sorting(SALIENCY[row], length, budget, scope))


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_equal_elements_are_selected_by_position(value):
    """For a map that is all zero or constant, exactly the first k elements are selected."""
    mask = topk_mask(torch.full((2, 4, 3), value), torch.tensor([4, 2]), Budget(count=5))
    assert mask.sum((1, 2)).tolist() == [5, 5]
    assert mask[:, :2].flatten(1).nonzero()[:, 1].tolist() == [0, 1, 2, 3, 4] * 2


def test_gradients_rank_by_the_change_of_a_step():
    """A gradient is multiplied by the scale of its channel, an attribution is not."""
    saliency = torch.tensor([[[1.0, -3.0]]])
    lengths, budget = torch.tensor([1]), Budget(count=1)
    victim = wrap(torch.nn.Identity().eval(), scale=torch.tensor([10.0, 1.0]))
    batch = FeatureBatch(torch.zeros(1, 1, 2), lengths)
    nothing = torch.zeros(1, dtype=torch.long)
    explained = Explanation(saliency, nothing, nothing)
    chosen = {
        name: explainer_mask(make_explainer(name), explained, victim, batch, budget)[0, 0].tolist()
        for name in ("gradient", "integrated-gradients")
    }
    assert chosen == {"gradient": [True, False], "integrated-gradients": [False, True]}
    scaled = topk_mask(saliency, lengths, budget, scale=torch.tensor([10.0, 1.0]))
    assert scaled[0, 0].tolist() == [True, False]


def test_on_a_linear_victim_the_mask_of_the_gradient_is_optimal():
    """Of all subsets of k elements, the top k of |w| * scale allow the largest decrease."""
    rng = torch.Generator().manual_seed(1)
    weight, scale = torch.randn(6, generator=rng), torch.rand(6, generator=rng) + 0.2

    class Linear(torch.nn.Module):
        def forward(self, x, lengths):
            score = (x * weight).sum((1, 2))
            return torch.stack([score, -score], 1)

    victim = wrap(Linear().eval(), scale=scale)
    batch = FeatureBatch(torch.zeros(1, 1, 6), torch.tensor([1]))
    budget = Budget(count=3, epsilon=0.5)
    explained = explanation("gradient", victim, batch, torch.tensor([0]))
    mask = explainer_mask(make_explainer("gradient"), explained, victim, batch, budget)
    gains = {
        subset: sum(float(0.5 * scale[d] * weight[d].abs()) for d in subset)
        for subset in itertools.combinations(range(6), 3)
    }
    assert tuple(mask[0, 0].nonzero()[:, 0].tolist()) == max(gains, key=gains.get)


def test_padding_and_values_on_it_have_no_influence():
    spoilt = SALIENCY.clone()
    for row, length in enumerate(LENGTHS.tolist()):
        spoilt[row, length:] = torch.nan
    for granularity in GRANULARITIES:
        budget = Budget(sparsity=0.3, granularity=granularity, segment_frames=3)
        mask = topk_mask(spoilt, LENGTHS, budget, 2)
        assert torch.equal(mask, topk_mask(SALIENCY, LENGTHS, budget, 2))
        alone = topk_mask(SALIENCY[1:2, :7], LENGTHS[1:2], budget, 2)
        assert torch.equal(mask[1, :7], alone[0])
        assert not bool(mask[1, 7:].any())


def test_maps_that_cannot_be_ranked_are_an_error():
    with pytest.raises(ExplainerError, match="NaN"):
        topk_mask(SALIENCY / 0, LENGTHS, Budget(count=1))
    with pytest.raises(BudgetError, match="more than the shortest"):
        topk_mask(SALIENCY, LENGTHS, Budget(count=36))
    for scope in (0, -1, True):
        with pytest.raises(BudgetError, match="scope"):
            topk_mask(SALIENCY, LENGTHS, Budget(count=1), scope)
    with pytest.raises(ShapeError, match="between 1 and"):
        topk_mask(SALIENCY, LENGTHS + SALIENCY.shape[1], Budget(count=1))
    # In this test run the type checker raises before the function does.
    for saliency, lengths, budget in (
        (SALIENCY[0], LENGTHS, Budget(count=1)),
        (SALIENCY.numpy(), LENGTHS, Budget(count=1)),
        (SALIENCY, LENGTHS.tolist(), Budget(count=1)),
        (SALIENCY, LENGTHS, 0.01),
    ):
        with pytest.raises((ShapeError, BudgetError, TypeCheckError)):
            topk_mask(saliency, lengths, budget)
    with pytest.raises((ShapeError, TypeError)):
        topk_mask(SALIENCY, LENGTHS, Budget(count=1), scale=torch.ones(4))
    with pytest.raises((ShapeError, TypeError)):
        topk_mask(SALIENCY, LENGTHS[:2], Budget(count=1))
