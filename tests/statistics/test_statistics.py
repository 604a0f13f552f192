"""Classifier scores, intervals and paired tests, against scikit-learn and scipy."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import scipy.stats
import sklearn.metrics
from hypothesis import given
from hypothesis import strategies as st

from sigma_ser.statistics.bootstrap import bootstrap_interval, mean_interval, mean_intervals
from sigma_ser.statistics.classification import (
    accuracy,
    classification_scores,
    confusion_matrix,
    macro_f1,
    recalls,
    uar,
    uar_interval,
)
from sigma_ser.statistics.mcnemar import holm, mcnemar
from sigma_ser.statistics.proportion import effective_trials, wilson_interval
from sigma_ser.statistics.sign_flip import sign_flip

pairs = st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=1, max_size=60)


@pytest.mark.filterwarnings("ignore:y_pred contains classes not in y_true")
@given(pairs)
def test_scores_agree_with_scikit_learn(sample: list[tuple[int, int]]) -> None:
    labels, predictions = np.array(sample).T
    confusion = confusion_matrix(labels, predictions, 5)
    theirs = sklearn.metrics.confusion_matrix(labels, predictions, labels=range(5))
    assert (confusion == theirs).all()
    assert accuracy(confusion) == pytest.approx(sklearn.metrics.accuracy_score(labels, predictions))
    assert macro_f1(confusion) == pytest.approx(
        sklearn.metrics.f1_score(labels, predictions, average="macro")
    )
    present = np.unique(labels)
    expected = sklearn.metrics.recall_score(
        labels, predictions, labels=present, average=None, zero_division=0
    )
    assert recalls(confusion)[present] == pytest.approx(expected)
    assert uar(confusion) == pytest.approx(expected.mean())


def test_a_class_that_does_not_occur_has_no_influence() -> None:
    confusion = confusion_matrix(np.array([0, 0, 1]), np.array([0, 0, 1]), 3)
    assert uar(confusion) == 1.0
    assert np.isnan(recalls(confusion)[2])
    nothing = np.zeros((3, 3), dtype=int)
    assert np.isnan([uar(nothing), accuracy(nothing), macro_f1(nothing)]).all()


def test_bootstrap_of_a_mean_agrees_with_scipy() -> None:
    values = np.random.default_rng(3).gamma(2.0, size=120)
    theirs = scipy.stats.bootstrap(
        (values,), np.mean, method="percentile", n_resamples=9999, rng=np.random.default_rng(1)
    ).confidence_interval
    ours = mean_interval(values, resamples=9999, seed=1)
    # Two sets of draws: the ends differ by their sampling error alone.
    assert ours == pytest.approx(tuple(theirs), abs=0.03 * values.std())
    assert mean_interval(np.append(values, np.nan), resamples=9999, seed=1) == ours
    assert mean_interval(values, resamples=200, seed=2) != mean_interval(values, resamples=200)


def test_bootstrap_is_the_same_in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.random.default_rng(0).normal(size=37)
    whole = mean_interval(values, resamples=50)
    monkeypatch.setattr("sigma_ser.statistics.bootstrap._DRAWN", 100)
    assert mean_interval(values, resamples=50) == pytest.approx(whole, abs=1e-12)


@pytest.mark.slow
def test_bootstrap_of_uar_agrees_with_resampling_by_hand() -> None:
    rng = np.random.default_rng(5)
    labels = rng.integers(3, size=90)
    predictions = np.where(rng.random(90) < 0.7, labels, rng.integers(3, size=90))
    draws = [rng.integers(90, size=90) for _ in range(1500)]
    by_hand = [sklearn.metrics.balanced_accuracy_score(labels[d], predictions[d]) for d in draws]
    low, high = uar_interval(labels, predictions)
    assert (low, high) == pytest.approx(tuple(np.quantile(by_hand, [0.025, 0.975])), abs=0.015)
    scores = classification_scores(labels, predictions, ["angry", "happy", "sad"])
    assert scores["uar_low"] == low < scores["uar"] < scores["uar_high"] == high
    assert sum(map(sum, scores["confusion"])) == scores["test_utterances"] == 90


def test_an_empty_sample_has_no_interval() -> None:
    assert np.isnan(bootstrap_interval(lambda w: w.sum(1), 0)).all()
    assert np.isnan(mean_interval(np.array([np.nan]))).all()


@given(st.integers(1, 400), st.floats(0, 1), st.sampled_from([0.9, 0.95, 0.99]))
def test_wilson_agrees_with_scipy(trials: int, share: float, level: float) -> None:
    hits = round(share * trials)
    low, high = wilson_interval(np.array([hits]), np.array([trials]), level=level)
    theirs = scipy.stats.binomtest(hits, trials).proportion_ci(level, method="wilson")
    assert (low[0], high[0]) == pytest.approx((theirs.low, theirs.high), abs=1e-9)


def test_wilson_without_a_trial_is_nan() -> None:
    assert np.isnan(wilson_interval(np.array([0]), np.array([0]))).all()


@given(st.integers(0, 40), st.integers(0, 40), st.integers(0, 5))
def test_mcnemar_agrees_with_the_sign_test(first: int, second: int, both: int) -> None:
    won = np.array([True] * first + [False] * second + [True] * both, dtype=bool)
    other = np.array([False] * first + [True] * second + [True] * both, dtype=bool)
    differ = first + second
    expected = scipy.stats.binomtest(first, differ).pvalue if differ else 1.0
    assert mcnemar(won, other) == pytest.approx(expected)
    assert mcnemar(won, other) == mcnemar(other, won)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8))
def test_holm_rejects_what_stepping_down_rejects(values: list[float]) -> None:
    p_values = np.array(values)
    adjusted = holm(p_values)
    for level in (0.01, 0.05, 0.2, 0.5):
        # Holm 1979: step through the sorted p-values up to the first above level / remaining.
        rejected = set[int]()
        for step, index in enumerate(np.argsort(p_values, kind="stable")):
            if p_values[index] * (len(values) - step) > level:
                break
            rejected.add(int(index))
        assert rejected == set(np.flatnonzero(adjusted <= level).tolist())
    assert (adjusted >= p_values).all()
    assert (adjusted <= 1).all()


@given(st.lists(st.integers(-3, 3), min_size=1, max_size=9))
def test_flipping_signs_by_utterance_agrees_with_all_choices_of_signs(given: list[int]) -> None:
    differences = np.array(given)
    signs = np.array(list(itertools.product([-1, 1], repeat=len(given))))
    expected = (np.abs(signs @ differences) >= abs(differences.sum())).mean()
    assert sign_flip(differences) == pytest.approx(expected)
    single = np.sign(differences)
    assert sign_flip(single) == pytest.approx(mcnemar(single > 0, single < 0))


@pytest.mark.slow
def test_seeds_of_one_utterance_are_not_independent_trials() -> None:
    rng = np.random.default_rng(0)
    seeds, utterances, studies = 5, 60, 400
    group = np.zeros(utterances, dtype=int)
    naive = ours = false_positives = naive_false_positives = 0
    for _ in range(studies):
        # Most utterances are misclassified under every seed or none: their seeds are correlated.
        chance = rng.beta(0.2, 0.3, utterances)
        hits = rng.binomial(seeds, chance)
        trials = np.full(utterances, seeds)
        whole = np.array([hits.sum()]), np.array([trials.sum()])
        low, high = wilson_interval(*whole)
        naive += int(low[0] < 0.4 < high[0])
        low, high = wilson_interval(*whole, effective=effective_trials(hits, trials, group))
        ours += int(low[0] < 0.4 < high[0])
        # Two methods of equal strength, each of which suits half of the utterances.
        suits = rng.random(utterances) < 0.5
        first = rng.random((seeds, utterances)) < np.where(suits, 0.9, 0.1)
        second = rng.random((seeds, utterances)) < np.where(suits, 0.1, 0.9)
        naive_false_positives += mcnemar(first.ravel(), second.ravel()) < 0.05
        false_positives += sign_flip(first.sum(0) - second.sum(0)) < 0.05
    assert naive / studies < 0.75
    assert ours / studies > 0.92
    assert naive_false_positives / studies > 0.2
    assert false_positives / studies < 0.08


def test_repeating_the_same_seed_changes_nothing() -> None:
    rng = np.random.default_rng(2)
    flipped, kept = rng.random(50) < 0.3, rng.normal(size=(50, 2))
    owner = np.tile(np.arange(50), 3)
    once = mean_intervals(kept)
    np.testing.assert_allclose(mean_intervals(np.tile(kept, (3, 1)), owner=owner), once)
    narrower = mean_intervals(np.tile(kept, (3, 1)))
    assert (narrower[1] - narrower[0] < 0.8 * (once[1] - once[0])).all()
    effective = effective_trials(3 * flipped.astype(int), np.full(50, 3), np.zeros(50, dtype=int))
    assert effective == pytest.approx([50.0])
    for none_or_all in (np.zeros(50, dtype=int), np.full(50, 3)):
        effective = effective_trials(none_or_all, np.full(50, 3), np.zeros(50, dtype=int))
        assert effective.tolist() == [50.0]
