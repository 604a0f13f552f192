"""Branching on kinks: exact where it is complete, a bound at every stage."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import Tensor

from sigma_ser.certificates.branching import Kinks, damage_by_branches

UNITS, ELEMENTS = 5, 6


@pytest.fixture(params=range(4))
def problem(request: pytest.FixtureRequest) -> tuple[Tensor, Tensor, Kinks]:
    """Tangent, effect of each element on each unit, and the kinks; elements lie in [-1, 1]."""
    rng = torch.Generator().manual_seed(request.param)
    tangent, effect = (
        torch.randn(*size, generator=rng, dtype=torch.float64)
        for size in ((ELEMENTS,), (UNITS, ELEMENTS))
    )
    reach = effect.abs().sum(1)
    distance = reach * torch.linspace(0.1, 1.2, UNITS, dtype=torch.float64)
    coefficient = torch.rand(1, UNITS, generator=rng, dtype=torch.float64) + 0.5
    coefficient[0, 1] *= -1  # adds nothing beyond the tangent
    return tangent, effect, Kinks(coefficient, distance, reach, reach)


def largest(tangent: Tensor, effect: Tensor, kinks: Kinks) -> float:
    """The largest damage, which is convex, so that a corner attains it."""
    found = []
    for corner in itertools.product((-1.0, 1.0), repeat=ELEMENTS):
        change = torch.tensor(corner, dtype=torch.float64)
        beyond = (effect @ change - kinks.distance).clamp(min=0.0)
        found.append(tangent @ change + kinks.coefficient[0].clamp(min=0.0) @ beyond)
    return float(torch.stack(found).max())


def test_all_branches_together_are_exact(problem: tuple[Tensor, Tensor, Kinks]) -> None:
    tangent, effect, kinks = problem
    bound = damage_by_branches(
        kinks, lambda slopes: (tangent + slopes @ effect).abs().sum(1), -torch.inf, 10_000
    )
    assert bound == pytest.approx(largest(tangent, effect, kinks), abs=1e-9)


def test_more_branches_never_give_a_larger_bound(problem: tuple[Tensor, Tensor, Kinks]) -> None:
    tangent, effect, kinks = problem
    truth = largest(tangent, effect, kinks)
    bounds = [
        damage_by_branches(
            kinks, lambda slopes: (tangent + slopes @ effect).abs().sum(1), -torch.inf, most
        )
        for most in (1, 2, 4, 12, 40)
    ]
    assert bounds == sorted(bounds, reverse=True)
    assert bounds[0] > bounds[-1] >= truth - 1e-9


def test_it_ends_as_soon_as_the_bound_suffices(problem: tuple[Tensor, Tensor, Kinks]) -> None:
    tangent, effect, kinks = problem
    calls: list[int] = []

    def damage(slopes: Tensor) -> Tensor:
        calls.append(len(slopes))
        return (tangent + slopes @ effect).abs().sum(1)

    chords = damage_by_branches(kinks, damage, torch.inf, 100)
    assert calls == [1]
    enough = (chords + largest(tangent, effect, kinks)) / 2
    assert damage_by_branches(kinks, damage, enough, 10_000) < enough
    early = sum(calls)
    damage_by_branches(kinks, damage, -torch.inf, 10_000)
    assert early < sum(calls) - early
