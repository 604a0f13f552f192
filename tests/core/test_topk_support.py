"""Exactly `k`, the largest ones, ties by position, against a plain sort."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sigma_ser.core.errors import AttackError
from sigma_ser.core.topk import _all_at_once, largest, topk_support

rows = st.lists(
    st.lists(st.sampled_from([0.0, -1.0, 0.5, 2.0, 3.0]), min_size=6, max_size=6),
    min_size=1,
    max_size=4,
)


@given(rows, st.data())
def test_it_equals_a_stable_sort(scores, data) -> None:
    k = data.draw(st.lists(st.integers(0, 8), min_size=len(scores), max_size=len(scores)))
    flags = st.lists(st.booleans(), min_size=6, max_size=6)
    allowed = data.draw(st.none() | st.lists(flags, min_size=len(scores), max_size=len(scores)))
    chosen = topk_support(
        torch.tensor(scores), torch.tensor(k), None if allowed is None else torch.tensor(allowed)
    )
    for row, line in enumerate(scores):
        usable = [n for n in range(6) if allowed is None or allowed[row][n]]
        best = sorted(usable, key=lambda n: (-line[n], n))[: k[row]]
        assert chosen[row].nonzero()[:, 0].tolist() == sorted(best)


def test_nothing_to_choose_from() -> None:
    assert not topk_support(torch.ones(2, 3), torch.zeros(2, dtype=torch.long)).any()
    nothing = torch.zeros(2, 3, dtype=torch.bool)
    assert not topk_support(torch.ones(2, 3), torch.ones(2, dtype=torch.long), nothing).any()
    assert topk_support(torch.ones(0, 3), torch.ones(0, dtype=torch.long)).shape == (0, 3)


LONG = np.random.default_rng(0)
ROWS = {
    "all different": LONG.permutation(20_000).astype(np.float32),
    "many ties": LONG.integers(0, 9, 20_000).astype(np.float32),
    "constant": np.zeros(20_000, dtype=np.float32),
    "nearly all alike": (LONG.random(20_000) < 1e-3).astype(np.float32),
    # A sample of every n-th value sees none of the large ones, or nothing else.
    "periodic": np.tile(np.eye(9, dtype=np.float32)[4], 2223)[:20_000],
    "periodic, from the first on": np.tile(np.eye(9, dtype=np.float32)[0], 2223)[:20_000],
    "sorted": np.arange(20_000, dtype=np.float32),
    "bits of half floats": LONG.integers(0, 1 << 15, 20_000).astype(np.uint16),
}


@pytest.mark.parametrize("name", ROWS)
@pytest.mark.parametrize("k", [0, 1, 2, 200, 2_222, 2_223, 19_999, 20_000, 30_000])
def test_long_rows_equal_a_stable_sort(name: str, k: int) -> None:
    values = ROWS[name]
    best = np.argsort(-values.astype(np.float64), kind="stable")[:k]
    assert np.flatnonzero(largest(values, k)).tolist() == sorted(best.tolist())


def test_an_accelerator_would_choose_the_same() -> None:
    rng = torch.Generator().manual_seed(1)
    scores = (torch.rand(7, 5_000, generator=rng) * 500).floor()
    k = torch.tensor([0, 1, 17, 400, 4_999, 5_000, 60])
    allowed = torch.rand(7, 5_000, generator=rng) < 0.1
    allowed[2] = False
    for where in (None, allowed, torch.ones_like(allowed)):
        assert torch.equal(topk_support(scores, k, where), _all_at_once(scores, k, where))


@pytest.mark.parametrize("name", ROWS)
@pytest.mark.parametrize("k", [1, 700, 5_000, 10_000, 19_998])
@pytest.mark.parametrize("width", [0, 300])
def test_a_known_bracket_changes_nothing(name: str, k: int, width: int) -> None:
    values = ROWS[name]
    ordered = np.sort(values)[::-1]
    bracket = ordered[min(k - 1 + width, 19_999)], ordered[max(k - 1 - width, 0)]
    assert (largest(values, k, bracket) == largest(values, k)).all()


@pytest.mark.parametrize("size", [6, 20_000])
def test_a_score_that_is_nan_is_an_error_unless_it_cannot_be_chosen(size: int) -> None:
    scores = torch.rand(2, size, generator=torch.Generator().manual_seed(0))
    scores[1, 4] = float("nan")
    allowed = torch.ones(2, size, dtype=torch.bool)
    k = torch.tensor([2, 2])
    for select in (topk_support, _all_at_once):
        for where in (None, allowed):
            with pytest.raises(AttackError, match="scores of a selection are NaN"):
                select(scores, k, where)
        without = allowed.clone()
        without[1, 4] = False
        assert select(scores, k, without).sum(1).tolist() == [2, 2]
