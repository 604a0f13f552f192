"""Batches are checked, name themselves by content, and draw noise that belongs to the utterance."""

from __future__ import annotations

import pytest
import torch
from jaxtyping import TypeCheckError

import sigma_ser as ss
from sigma_ser.core.features import pad
from sigma_ser.core.seeds import UtteranceNoise, derive_seed, utterance_seeds


@pytest.mark.parametrize(
    ("x", "lengths"),
    [
        (torch.zeros(2, 3), torch.tensor([3, 3])),
        (torch.zeros(2, 3, 4, dtype=torch.float64), torch.tensor([3, 3])),
        (torch.zeros(2, 3, 4), torch.tensor([3])),
        (torch.zeros(2, 3, 4), torch.tensor([3.0, 3.0])),
        (torch.zeros(2, 3, 4), torch.tensor([3, 0])),
        (torch.zeros(2, 3, 4), torch.tensor([True, True])),
        (torch.zeros(2, 3, 4), torch.tensor([3, 4])),
    ],
)
def test_what_does_not_fit_is_refused(x: torch.Tensor, lengths: torch.Tensor) -> None:
    with pytest.raises((ss.errors.ShapeError, TypeError)):
        ss.FeatureBatch(x, lengths)


def test_what_is_not_a_tensor_is_refused_with_a_remedy() -> None:
    x = torch.zeros(2, 3, 4)
    # Under the type checker, these do not even get to the batch's own check.
    refused = (ss.errors.ShapeError, TypeCheckError)
    with pytest.raises(refused, match="lengths"):
        ss.FeatureBatch(x, [3, 2])
    with pytest.raises(refused, match="x"):
        ss.FeatureBatch(x.numpy(), torch.tensor([3, 2]))


def test_names_come_from_the_valid_bytes_alone() -> None:
    items = [torch.randn(n, 3, generator=torch.Generator().manual_seed(n)) for n in (2, 5)]
    together = pad(items)
    noisy = together.x.clone()
    noisy[0, 2:] = 9.0
    assert ss.FeatureBatch(noisy, together.lengths).ids == together.ids
    assert pad(items[:1]).ids == together.ids[:1]
    assert len(set(together.ids)) == 2
    assert together.select(torch.tensor([0])).x.shape == (1, 2, 3)


def test_an_empty_selection_is_named() -> None:
    with pytest.raises(ss.errors.ShapeError, match="at least one utterance"):
        pad([])


def test_noise_does_not_depend_on_the_batch() -> None:
    ids, lengths = ["a", "b", "c"], torch.tensor([4, 2, 7])
    seeds = utterance_seeds(ids, 0, "test")
    like = torch.zeros(3, 7, 2)
    for draw in ("normal", "uniform", "signs"):
        together = getattr(UtteranceNoise(seeds, lengths), draw)(like)
        alone = getattr(UtteranceNoise(seeds[1:2], lengths[1:2]), draw)(torch.zeros(1, 2, 2))
        assert torch.equal(together[1, :2], alone[0])
        assert (together[1, 2:] == 0).all()
        assert not torch.equal(together[0, :2], together[1, :2])


def test_selected_generators_go_on_where_they_were() -> None:
    seeds, lengths = utterance_seeds("ab", 1), torch.tensor([3, 3])
    like = torch.zeros(2, 3, 1)
    whole, part = UtteranceNoise(seeds, lengths), UtteranceNoise(seeds, lengths)
    first = whole.normal(like)
    assert torch.equal(part.normal(like), first)
    second = whole.normal(like)
    assert torch.equal(part.select([1]).normal(like[1:]), second[1:])
    assert not torch.equal(first, second)


def test_seeds_depend_on_every_part_and_on_nothing_else() -> None:
    assert derive_seed(1, "a") == derive_seed(1, "a") != derive_seed("1a")
    assert derive_seed(1, "a") != derive_seed(2, "a")
    # Written down once, so that results stay the same from one release to the next.
    assert derive_seed(0, "attack", "x") == derive_seed("0", "attack", "x")
