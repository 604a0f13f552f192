"""Frame ablation: the bound holds for the smoothed victim, by full enumeration."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from scipy.stats import binom
from torch import Tensor

import sigma_ser as ss
from sigma_ser.certificates import FrameAblation
from sigma_ser.certificates.frame_ablation import (
    clopper_pearson,
    random_choices,
    reach_probability,
    touched_frames,
)
from sigma_ser.core.budget import Budget
from sigma_ser.core.errors import CertificateError
from sigma_ser.core.features import FeatureBatch
from sigma_ser.victims.fitting import without_frames
from sigma_ser.victims.heads import EmoBox
from sigma_ser.victims.victim import WrappedVictim, wrap


@pytest.fixture
def victim() -> WrappedVictim:
    """A head with random weights and large logits, for features of two channels."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(4)
        return wrap(EmoBox(2, 3, hidden=6).eval())


@pytest.fixture
def frames() -> FeatureBatch:
    """Utterances of 5 to 8 frames, some with one class in nearly all frames."""
    rng = torch.Generator().manual_seed(2)
    x = torch.randn(6, 1, 2, generator=rng) * 2 + 0.4 * torch.randn(6, 8, 2, generator=rng)
    return FeatureBatch(x, torch.tensor([8, 5, 6, 7, 8, 8]))


def _smoothed(victim: WrappedVictim, x: Tensor, kept: int) -> Tensor:
    """Share of all choices of frames for each class, one choice at a time."""
    votes = torch.zeros(3)
    for choice in itertools.combinations(range(len(x)), kept):
        logits = victim(x[list(choice)][None], torch.tensor([kept]))
        votes[int(logits.argmax())] += 1
    return votes / votes.sum()


@pytest.mark.parametrize("kept", [1, 2, 3])
def test_short_utterances_are_enumerated(
    victim: WrappedVictim, frames: FeatureBatch, kept: int
) -> None:
    labels = victim(frames.x, frames.lengths).argmax(1)
    bound = ss.certify(
        victim, frames, labels, Budget(count=2, granularity="frame"),
        method="frame-ablation", kept=kept,
    )  # fmt: skip
    assert bound.method == "frame-ablation"
    for row, length in enumerate(frames.lengths.tolist()):
        votes = _smoothed(victim, frames.x[row, :length], kept)
        reached = 1 - math.comb(length - 1, kept) / math.comb(length, kept)
        expected = votes[labels[row]] - reached - 0.5
        if int(votes.argmax()) != int(labels[row]):
            expected = torch.tensor(-0.5 - reached)
        assert float(bound.margin[row]) == pytest.approx(float(expected), abs=1e-6)


def test_no_change_of_the_frames_fools_a_certified_smoothed_victim(
    victim: WrappedVictim, frames: FeatureBatch
) -> None:
    method = FrameAblation(kept=1)
    labels = method.predict(victim, frames)
    budget = Budget(count=4, granularity="frame", epsilon=1.0)
    bound = method(victim, frames, labels, budget)
    assert bool(bound.certified.any())
    rng = torch.Generator().manual_seed(0)
    for row in bound.certified.nonzero()[:, 0].tolist():
        length = int(frames.lengths[row])
        for changed in itertools.combinations(range(length), 2):
            x = frames.x[row, :length].clone()
            x[list(changed)] = 20 * torch.randn(2, 2, generator=rng)
            assert int(_smoothed(victim, x, 1).argmax()) == int(labels[row])


def test_the_sampled_bound_lies_below_the_exact_one(
    victim: WrappedVictim, frames: FeatureBatch
) -> None:
    labels = FrameAblation(kept=3).predict(victim, frames)
    budget = Budget(count=2, granularity="frame")
    exact = FrameAblation(kept=3)(victim, frames, labels, budget)
    sampled = FrameAblation(kept=3, samples=19, selection=19)(victim, frames, labels, budget)
    again = FrameAblation(kept=3, samples=19, selection=19)(victim, frames, labels, budget)
    longest = frames.lengths >= 7  # more choices than samples
    assert bool((sampled.margin <= exact.margin + 1e-9)[longest].all())
    assert torch.equal(sampled.margin, again.margin)


def test_the_confidence_bound_is_that_of_the_binomial_distribution() -> None:
    low = clopper_pearson(45, 50, 0.001)
    # With this probability, 45 or more hits have a chance of exactly alpha.
    assert binom.sf(44, 50, low) == pytest.approx(0.001)
    assert clopper_pearson(0, 50, 0.001) == 0.0


def test_the_probability_that_a_change_is_seen_is_that_of_counting() -> None:
    for touched in range(7):
        seen = sum(
            min(choice) < touched for choice in itertools.combinations(range(6), 2)
        ) / math.comb(6, 2)
        assert reach_probability(6, 2, touched) == pytest.approx(seen)


def test_the_frames_that_a_budget_touches(frames: FeatureBatch) -> None:
    mask = torch.zeros_like(frames.x, dtype=torch.bool)
    mask[:, 1:3, 0] = True
    lengths = frames.lengths.tolist()
    assert touched_frames(frames, Budget(count=3), None) == [3] * 6
    assert touched_frames(frames, Budget(count=3), mask) == [2] * 6
    assert touched_frames(frames, Budget(sparsity=0.5, granularity="channel"), None) == lengths
    segments = Budget(sparsity=0.3, granularity="segment", segment_frames=3)
    assert touched_frames(frames, segments, None) == [5, 5, 3, 4, 5, 5]


def test_random_choices_are_sorted_subsets_with_equal_chances() -> None:
    choices = random_choices(6, 2, 3000, torch.Generator().manual_seed(0))
    assert bool((choices[:, 0] < choices[:, 1]).all())
    counts = torch.bincount(choices.flatten(), minlength=6)
    assert bool(((counts - 1000).abs() < 120).all())


def test_frame_dropout_keeps_frames_of_the_utterance_in_their_order() -> None:
    lengths = torch.tensor([10, 4, 1])
    x = torch.arange(10.0)[None, :, None].repeat(3, 1, 2) + 1
    x = x.masked_fill(torch.arange(10)[None, :, None] >= lengths[:, None, None], 0.0)
    kept, numbers = without_frames(x, lengths, 0.75, torch.Generator().manual_seed(3))
    assert numbers.tolist() == [2, 1, 1]
    for row, number in enumerate(numbers.tolist()):
        frames = kept[row, :number, 0]
        assert bool((frames >= 1).all() and (frames <= lengths[row]).all())
        assert bool((frames.diff() > 0).all())
        assert not bool(kept[row, number:].any())


def test_settings_out_of_their_range_are_errors(
    victim: WrappedVictim, frames: FeatureBatch
) -> None:
    labels = torch.zeros(6, dtype=torch.long)
    for settings in ({"kept": 0}, {"samples": 0}, {"alpha": 1.0}):
        with pytest.raises(CertificateError):
            ss.certify(victim, frames, labels, Budget(count=2), method="frame-ablation", **settings)
