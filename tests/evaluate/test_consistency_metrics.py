"""Every measure against an independent reference: scipy, scikit-image, Python sets."""

from __future__ import annotations

import tracemalloc
import warnings

import numpy as np
import pytest
import torch
from scipy import stats
from scipy.spatial import distance

from sigma_ser.evaluate.consistency.rank import Ranks, kendall, spearman
from sigma_ser.evaluate.consistency.sets import iou, topk_intersection
from sigma_ser.evaluate.consistency.shape import centre_shift, cosine, mask_mass, ssim_time

LENGTHS = torch.tensor([30, 11, 19, 4, 1])


def maps(kind: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Two maps of magnitudes, with arbitrary values on the padding."""
    rng = torch.Generator().manual_seed(11)
    shape = (len(LENGTHS), 30, 7)
    a = torch.rand(shape, generator=rng)
    b = (
        0.5 * a + torch.rand(shape, generator=rng)
        if kind != "far"
        else torch.rand(shape, generator=rng)
    )
    if kind == "ties":
        a, b = (a * 3).floor(), (b * 3).floor()
    if kind == "one constant":
        a = torch.ones(shape)
    if kind == "zero":
        a, b = torch.zeros(shape), torch.zeros(shape)
    for row, length in enumerate(LENGTHS.tolist()):
        a[row, length:], b[row, length:] = 5.0, -7.0
    return a, b


def valid(a: torch.Tensor) -> list[np.ndarray]:
    return [a[row, :length].double().numpy() for row, length in enumerate(LENGTHS.tolist())]


KINDS = pytest.mark.parametrize("kind", ["near", "far", "ties", "one constant", "zero"])


def agree(ours: torch.Tensor, theirs: list[float]) -> None:
    torch.testing.assert_close(
        ours.double(), torch.tensor(theirs, dtype=torch.float64), atol=1e-9, rtol=0, equal_nan=True
    )


@KINDS
def test_spearman_is_that_of_scipy(kind):
    a, b = maps(kind)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = [
            stats.spearmanr(p.ravel(), q.ravel()).statistic
            for p, q in zip(valid(a), valid(b), strict=True)
        ]
    agree(spearman(a, b, LENGTHS), theirs)


@KINDS
def test_kendall_is_that_of_scipy_on_time_profiles(kind):
    a, b = maps(kind)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = [
            stats.kendalltau(p.sum(1), q.sum(1)).statistic
            for p, q in zip(valid(a), valid(b), strict=True)
        ]
    agree(kendall(a, b, LENGTHS), theirs)


@KINDS
def test_cosine_is_that_of_scipy(kind):
    a, b = maps(kind)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = [
            1 - distance.cosine(p.ravel(), q.ravel()) if p.any() and q.any() else np.nan
            for p, q in zip(valid(a), valid(b), strict=True)
        ]
    agree(cosine(a, b, LENGTHS), theirs)


@pytest.mark.parametrize("kind", ["near", "far", "ties", "one constant"])
def test_ssim_is_that_of_scikit_image(kind):
    metrics = pytest.importorskip("skimage.metrics")
    a, b = maps(kind)
    theirs = []
    for p, q in zip(valid(a), valid(b), strict=True):
        first, second = p.sum(1), q.sum(1)
        # scikit-image has a Gaussian window of exactly 11 taps; shorter ones are computed by hand.
        if len(first) >= 11:
            theirs.append(
                metrics.structural_similarity(
                    first,
                    second,
                    data_range=max(first.max(), second.max()),
                    gaussian_weights=True,
                    sigma=1.5,
                    use_sample_covariance=False,
                )
            )
        else:
            theirs.append(small_ssim(first, second))
    agree(ssim_time(a, b, LENGTHS), theirs)


def small_ssim(a: np.ndarray, b: np.ndarray) -> float:
    size = (len(a) - 1) // 2 * 2 + 1
    window = np.exp(-0.5 * ((np.arange(size) - size // 2) / 1.5) ** 2)
    window /= window.sum()
    largest = max(a.max(), b.max())
    values = []
    for start in range(len(a) - size + 1):
        p, q = a[start : start + size], b[start : start + size]
        mp, mq = (window * p).sum(), (window * q).sum()
        vp, vq = (window * (p - mp) ** 2).sum(), (window * (q - mq) ** 2).sum()
        pq = (window * (p - mp) * (q - mq)).sum()
        c1, c2 = (0.01 * largest) ** 2, (0.03 * largest) ** 2
        values.append((2 * mp * mq + c1) * (2 * pq + c2) / ((mp**2 + mq**2 + c1) * (vp + vq + c2)))
    return float(np.mean(values))


@pytest.mark.parametrize("kind", ["near", "far", "ties"])
def test_centre_shift_is_the_distance_of_weighted_means(kind):
    a, b = maps(kind)
    theirs = [
        abs(
            np.average(np.arange(len(p)) * 0.02, weights=p.sum(1))
            - np.average(np.arange(len(q)) * 0.02, weights=q.sum(1))
        )
        for p, q in zip(valid(a), valid(b), strict=True)
    ]
    agree(centre_shift(a, b, LENGTHS, 0.02), theirs)


def test_mask_mass_is_a_share():
    a, _ = maps("near")
    mask = torch.rand(a.shape, generator=torch.Generator().manual_seed(2)) < 0.3
    theirs = [
        float(p[m.numpy()].sum() / p.sum())
        for p, m in zip(valid(a), [mask[r, :n] for r, n in enumerate(LENGTHS)], strict=True)
    ]
    agree(mask_mass(a, mask, LENGTHS), theirs)
    assert bool(torch.isnan(mask_mass(torch.zeros_like(a), mask, LENGTHS)).all())


def test_sets_are_compared_as_sets():
    rng = torch.Generator().manual_seed(4)
    first = torch.rand(6, 5, 4, generator=rng) < 0.4
    second = torch.rand(6, 5, 4, generator=rng) < 0.4
    for row in range(6):
        s = {tuple(cell) for cell in first[row].nonzero().tolist()}
        t = {tuple(cell) for cell in second[row].nonzero().tolist()}
        pair = first[row : row + 1], second[row : row + 1]
        assert float(topk_intersection(*pair)) == pytest.approx(len(s & t) / len(s))
        assert float(iou(*pair)) == pytest.approx(len(s & t) / len(s | t))


def test_average_ranks_are_those_of_scipy_with_zeros_of_both_signs():
    values = torch.tensor([[0.0, 2.0, -0.0, 2.0, 1.0, 9.0], [3.0, 3.0, 3.0, 1e-40, 0.0, 3e38]])
    ranks = Ranks(6)
    for row in values:
        assert ranks.of(row.numpy()).tolist() == stats.rankdata(row.numpy()).tolist()


def test_cosine_does_not_depend_on_the_size_of_the_maps():
    """Gradients of a confident victim are tiny; an epsilon in the denominator would bias them."""
    a, b = maps("near")
    torch.testing.assert_close(
        cosine(a * 1e-15, b * 1e-15, LENGTHS), cosine(a, b, LENGTHS), rtol=1e-6, atol=0
    )


def test_two_equal_maps_agree_completely():
    a, _ = maps("near")
    rows = slice(0, 4)
    same = {
        "spearman": spearman(a, a, LENGTHS)[rows],
        "kendall": kendall(a, a, LENGTHS)[rows],
        "cosine": cosine(a, a, LENGTHS),
        "ssim": ssim_time(a, a, LENGTHS),
    }
    for name, values in same.items():
        assert values.tolist() == pytest.approx([1.0] * len(values)), name
    assert centre_shift(a, a, LENGTHS, 1.0).tolist() == [0.0] * 5


def test_kendall_of_a_profile_of_samples_takes_linear_memory():
    # All pairs of 20,000 samples would take 3 GB.
    a = torch.rand(1, 20_000, 1, generator=torch.Generator().manual_seed(0))
    lengths = torch.tensor([20_000])
    tracemalloc.start()
    assert kendall(a, a**2, lengths).item() == pytest.approx(1.0)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 50e6
