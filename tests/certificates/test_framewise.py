"""Heads with ReLU: no certificate exceeds the true minimum, which brute force and MILP give."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import Bounds, LinearConstraint, milp
from torch import Tensor, nn

import sigma_ser as ss
from sigma_ser.certificates.mlp import MLPBound
from sigma_ser.certificates.parabolas import curved_scores
from sigma_ser.certificates.relaxation import element_scores, quadratic_scores
from sigma_ser.certificates.sharing import worst_choice, worst_split
from sigma_ser.core.budget import Budget
from sigma_ser.core.features import FeatureBatch
from sigma_ser.testing import check_certificate
from sigma_ser.testing.certificates import smallest_corner_margin
from sigma_ser.victims.heads import CNN, MLP, EmoBox
from sigma_ser.victims.victim import Standardised, WrappedVictim, wrap

Maker = Callable[..., WrappedVictim]
HEADS: dict[str, type[nn.Module]] = {"emobox": EmoBox, "mlp": MLP, "cnn": CNN}


@pytest.mark.parametrize("head", HEADS)
def test_no_margin_exceeds_what_a_corner_reaches(
    head: str, budget: Budget, mask: Tensor | None, batch: FeatureBatch, small_victim: Maker
) -> None:
    victim = small_victim(HEADS[head], hidden=4)
    labels = victim(batch.x, batch.lengths).argmax(1)
    bound = ss.certify(victim, batch, labels, budget, mask=mask)
    assert (bound.method, bound.proven) == ("framewise", True)
    truth = smallest_corner_margin(victim, batch, labels, budget, mask)
    assert bool((bound.margin <= truth).all())


@pytest.mark.parametrize("head", HEADS)
def test_the_laws_of_certificates_hold(
    head: str, batch: FeatureBatch, half_mask: Tensor, small_victim: Maker
) -> None:
    check_certificate("framewise", small_victim(HEADS[head], 2, hidden=3), batch, mask=half_mask)


@pytest.mark.parametrize("head", HEADS)
def test_a_vanishing_change_costs_nothing(
    head: str, batch: FeatureBatch, small_victim: Maker
) -> None:
    victim = small_victim(HEADS[head], hidden=4)
    logits = victim(batch.x, batch.lengths).detach().double()
    bound = ss.certify(victim, batch, logits.argmax(1), Budget(count=2, epsilon=1e-9))
    two = logits.topk(2).values
    assert torch.allclose(bound.margin, two[:, 0] - two[:, 1], rtol=0, atol=1e-5)
    assert bool(bound.certified.all())


@pytest.mark.parametrize("head", HEADS)
def test_an_empty_mask_allows_nothing(head: str, batch: FeatureBatch, small_victim: Maker) -> None:
    victim = small_victim(HEADS[head], hidden=4)
    logits = victim(batch.x, batch.lengths).detach().double()
    mask = torch.zeros_like(batch.x, dtype=torch.bool)
    bound = ss.certify(victim, batch, logits.argmax(1), Budget(count=2), mask=mask)
    two = logits.topk(2).values
    assert torch.allclose(bound.margin, two[:, 0] - two[:, 1], rtol=0, atol=1e-5)


def test_closer_intervals_of_mlp_are_sound(
    batch: FeatureBatch, small_victim: Maker, monkeypatch: pytest.MonkeyPatch
) -> None:
    closer = []
    for seed in range(6):
        victim = small_victim(MLP, seed, hidden=32)
        labels = victim(batch.x, batch.lengths).argmax(1)
        budget = Budget(count=2, epsilon=0.3)
        bound = ss.certify(victim, batch, labels, budget)
        assert bool((bound.margin <= smallest_corner_margin(victim, batch, labels, budget)).all())
        with monkeypatch.context() as patch:
            patch.setattr(MLPBound, "_refined", lambda self, allowed, reach, found: found)
            coarse = ss.certify(victim, batch, labels, budget)
        assert bool((bound.margin >= coarse.margin).all())
        closer += (bound.margin > coarse.margin + 1e-6).tolist()
    assert sum(closer) >= 4


def _smallest_change_by_milp(
    weight: np.ndarray, clean: np.ndarray, radius: np.ndarray, out: np.ndarray
) -> float:
    """The exact minimum of `out @ ReLU(clean + weight @ delta)` over a box, for one frame.

    Variables: the changes, the activation of each hidden unit, and one binary for each unit, which
    is 1 where it is active.
    """
    hidden, channels = weight.shape
    reach = (np.abs(weight) * radius).sum(1) + 1e-3
    top, bottom = np.maximum(clean + reach, 0.0), np.minimum(clean - reach, 0.0)
    unit, none = np.eye(hidden), np.zeros((hidden, hidden))
    # a >= h, a <= h where active, and a <= 0 where inactive.
    above = np.hstack([-weight, unit, none])
    below = np.hstack([-weight, unit, -np.diag(bottom)])
    on = np.hstack([np.zeros((hidden, channels)), unit, -np.diag(top)])
    free = np.full(hidden, np.inf)
    solved = milp(
        np.r_[np.zeros(channels), out, np.zeros(hidden)],
        constraints=[
            LinearConstraint(above, clean, free),
            LinearConstraint(below, -free, clean - bottom),
            LinearConstraint(on, -free, np.zeros(hidden)),
        ],
        integrality=np.r_[np.zeros(channels + hidden), np.ones(hidden)],
        bounds=Bounds(
            np.r_[-radius, np.zeros(2 * hidden)], np.r_[radius, top + 1.0, np.ones(hidden)]
        ),
    )
    assert solved.success, solved.message
    return float(solved.fun)


def _smallest_margin_by_milp(
    victim: WrappedVictim, x: Tensor, label: int, rival: int, budget: Budget
) -> float:
    """The exact minimum of `z_label - z_rival`: a program for each frame and support."""
    module = victim.module
    assert isinstance(module, Standardised)
    first, last = module.head.project[0], module.head.classify
    weight, bias, v, offset = (
        one.detach().double().numpy() for one in (first.weight, first.bias, last.weight, last.bias)
    )
    mean, scale = module.mean.double().numpy(), module.scale.double().numpy()
    frames, channels = x.shape
    radius = budget.bound(victim.scale.double()).numpy() / scale
    clean = (x.double().numpy() - mean) / scale @ weight.T + bias
    out = (v[label] - v[rival]) / frames
    supports = list(itertools.product((0.0, 1.0), repeat=channels))
    smallest = [
        {
            support: _smallest_change_by_milp(weight, frame, radius * np.array(support), out)
            for support in supports
        }
        for frame in clean
    ]
    units = int(budget.units(torch.tensor([frames]), channels)[0])
    sums = [
        sum(smallest[t][support] for t, support in enumerate(choice))
        for choice in itertools.product(supports, repeat=frames)
        if sum(map(sum, choice)) <= units
    ]
    return float(min(sums) + offset[label] - offset[rival])


def test_the_bound_of_emobox_against_mixed_integer_programming(small_victim: Maker) -> None:
    gaps = []
    for seed in range(3):
        victim = small_victim(EmoBox, seed, hidden=4)
        rng = torch.Generator().manual_seed(seed)
        x = torch.randn(1, 3, 2, generator=rng)
        batch = FeatureBatch(x, torch.tensor([3]))
        logits = victim(batch.x, batch.lengths)[0]
        label = int(logits.argmax())
        for count, epsilon in ((1, 0.3), (2, 0.8), (4, 1.5)):
            budget = Budget(count=count, epsilon=epsilon)
            bound = ss.certify(victim, batch, torch.tensor([label]), budget)
            truth = min(
                _smallest_margin_by_milp(victim, x[0], label, rival, budget)
                for rival in range(3)
                if rival != label
            )
            assert float(bound.margin[0]) <= truth + 1e-7
            gaps.append(truth - float(bound.margin[0]))
    # Not only sound: the median gap is a fraction of the logits, which are of the order of 0.3.
    assert float(np.median(gaps)) < 0.05


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10_000), most=st.integers(1, 4), near=st.sampled_from([0.0, 0.5]))
def test_scores_bound_the_damage_of_every_change(seed: int, most: int, near: float) -> None:
    rng = torch.Generator().manual_seed(seed)
    weight = torch.randn(5, 4, generator=rng, dtype=torch.float64)
    h, c = torch.randn(2, 1, 5, generator=rng, dtype=torch.float64)
    radius = torch.rand(1, 4, generator=rng, dtype=torch.float64)
    squares = torch.rand(5, generator=rng, dtype=torch.float64)
    part = element_scores(weight, h, c[None], radius, most, near)
    bent = element_scores(weight, h, c[None], radius, most, near, squares=squares[None])
    changes = torch.rand(200, 4, generator=rng, dtype=torch.float64) * 2 - 1
    changes[::2] = torch.sign(changes[::2])
    keep = torch.rand(200, 4, generator=rng).argsort(1) < most
    changes = changes * keep * radius
    moved = (h + changes @ weight.T).relu() - h.relu()
    damage = -(moved * c).sum(1)
    allowed = (part.scores[0] * (changes != 0)).sum(1) + part.price[0]
    assert bool((damage <= allowed + 1e-12).all())
    allowed = (bent.scores[0] * (changes != 0)).sum(1) + bent.price[0]
    assert bool((damage + moved.square() @ squares <= allowed + 1e-12).all())


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10_000), most=st.integers(1, 4))
def test_parabolas_bound_the_damage_of_every_change(seed: int, most: int) -> None:
    rng = torch.Generator().manual_seed(seed)
    weight = torch.randn(5, 4, generator=rng, dtype=torch.float64)
    h, c = torch.randn(2, 3, 5, generator=rng, dtype=torch.float64)
    radius = torch.rand(3, 4, generator=rng, dtype=torch.float64)
    (part,) = curved_scores(weight, h, c[None], radius, [most])
    changes = torch.rand(200, 3, 4, generator=rng, dtype=torch.float64) * 2 - 1
    changes[::2] = torch.sign(changes[::2])
    changes *= (torch.rand(200, 3, 4, generator=rng).argsort(2) < most) * radius
    damage = -(((h + changes @ weight.T).relu() - h.relu()) * c).sum(2)
    allowed = (part.scores[0] * (changes != 0)).sum(2) + part.price[0]
    assert bool((damage <= allowed + 1e-12).all())


def test_many_changes_of_a_frame_are_bounded_together() -> None:
    # Chords let every unit reach its own extreme; the squares of all units are bounded as one.
    rng = torch.Generator().manual_seed(0)
    weight = torch.randn(128, 192, generator=rng, dtype=torch.float64) / 10
    h, c = torch.randn(2, 1, 128, generator=rng, dtype=torch.float64)
    radius = torch.ones(1, 192, dtype=torch.float64)
    (curved,) = curved_scores(weight, 2 * h, c[None], radius, [48])
    chords = element_scores(weight, 2 * h, c[None], radius, 48)
    bounds = [
        float(part.scores.topk(48).values.sum() + part.price.sum()) for part in (curved, chords)
    ]
    assert bounds[0] < 0.75 * bounds[1]


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10_000), most=st.integers(1, 6))
def test_scores_bound_a_quadratic_form(seed: int, most: int) -> None:
    rng = torch.Generator().manual_seed(seed)
    weight = torch.randn(1, 3, 6, generator=rng, dtype=torch.float64)
    changes = torch.rand(200, 6, generator=rng, dtype=torch.float64) * 2 - 1
    changes[::2] = torch.sign(changes[::2])
    changes *= torch.rand(200, 6, generator=rng).argsort(1) < most
    lengths = (changes @ weight[0].T).square().sum(1)
    scores = quadratic_scores(weight, most)[0]
    assert bool((lengths <= changes.abs() @ scores + 1e-12).all())


def test_a_form_is_not_bounded_by_the_smaller_score_of_each_element() -> None:
    # Rows and largest eigenvalue bound the form one by one; the mixture is 14.01 of 16.01.
    weight = torch.tensor([[[3.0, 1.0, 0.0], [0.0, 0.0, 0.1]]], dtype=torch.float64)
    scores = quadratic_scores(weight, 3)[0]
    signs = torch.tensor(list(itertools.product((-1.0, 1.0), repeat=3))).double()
    assert float((signs @ weight[0].T).square().sum(1).max()) <= float(scores.sum())


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10_000), k=st.integers(1, 9))
def test_the_split_bounds_every_split(seed: int, k: int) -> None:
    rng = torch.Generator().manual_seed(seed)
    damage = torch.rand(2, 3, 5, generator=rng, dtype=torch.float64)
    damage[..., 0] = 0
    bound = worst_split(damage, k)
    splits = [one for one in itertools.product(range(5), repeat=3) if sum(one) <= k]
    for j in range(2):
        sums = [sum(float(damage[j, t, n]) for t, n in enumerate(one)) for one in splits]
        assert float(bound[j]) >= max(sums) - 1e-12
    concave = damage.sort(2, descending=True).values.cumsum(2)
    concave = torch.cat([torch.zeros(2, 3, 1, dtype=torch.float64), concave[..., :-1]], 2)
    exact = [
        max(sum(float(concave[j, t, n]) for t, n in enumerate(one)) for one in splits)
        for j in range(2)
    ]
    assert torch.allclose(worst_split(concave, k), torch.tensor(exact).double(), atol=1e-6)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10_000), k=st.integers(1, 5))
def test_the_choice_bounds_every_choice_of_elements(seed: int, k: int) -> None:
    rng = torch.Generator().manual_seed(seed)
    frames, channels, shares = 4, 2, torch.tensor([0.25, 0.5, 0.25]).double()
    levels = [
        (most, torch.rand(1, frames, 3, channels, generator=rng, dtype=torch.float64) * most)
        for most in (1, 3, 6)
    ]
    bound = float(worst_choice(levels, shares, k)[0])
    for chosen in itertools.combinations(range(frames * channels), k):
        changed = torch.zeros(frames + 2, channels, dtype=torch.float64)
        changed[1:-1].view(-1)[list(chosen)] = 1
        windows = changed.unfold(0, 3, 1).mT
        best = torch.full((frames,), -torch.inf, dtype=torch.float64)
        for most, scores in levels:
            fits = windows.sum((1, 2)) <= most
            found = (scores[0] * windows).sum((1, 2))
            best = torch.where(fits, torch.maximum(best, found), best)
        assert float(best.sum()) <= bound + 1e-9


def test_certified_and_fooled_are_disjoint(batch: FeatureBatch, half_mask: Tensor) -> None:
    torch.manual_seed(0)
    pairs: list[bool] = []
    for head in ("linear", "superb", "emobox", "mlp", "cnn"):
        kind = ss.registry.get("head", head)
        module = kind(2, 3) if head == "linear" else kind(2, 3, hidden=6)
        victim = wrap(module.eval(), scale=torch.tensor([0.5, 1.0]))
        labels = victim(batch.x, batch.lengths).argmax(1)
        for granularity, (attack, epsilon, mask) in itertools.product(
            ("element", "frame", "channel", "segment"),
            (
                ("dual-averaging", 0.3, None),
                ("dual-averaging", 2.0, half_mask),
                ("random", 0.05, half_mask),
                ("random", 0.3, None),
            ),
        ):
            budget = Budget(sparsity=0.5, epsilon=epsilon, granularity=granularity)
            bound = ss.certify(victim, batch, labels, budget, mask=mask)
            more = {"draws": 20} if attack == "random" else {"steps": 5}
            result = ss.attack(attack, victim, batch, labels, budget, mask=mask, **more)
            assert not bool((bound.certified & result.success).any())
            pairs += [bool(bound.certified.any()), bool(result.success.any())]
    # Neither side is empty.
    assert any(pairs[::2])
    assert any(pairs[1::2])
