"""Exactly `k`, the largest ones, ties by position, against a plain sort."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from sigma_ser.core.topk import topk_support

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
