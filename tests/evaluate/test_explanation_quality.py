"""Quality of explanations against quantus and against curves by hand, with negative controls."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch

from sigma_ser.core.errors import ExplainerError
from sigma_ser.core.features import FeatureBatch
from sigma_ser.core.seeds import UtteranceNoise, utterance_seeds
from sigma_ser.evaluate.quality.curves import area, deletion, insertion
from sigma_ser.evaluate.quality.measures import QualitySettings, quality
from sigma_ser.evaluate.quality.shape import complexity, gini
from sigma_ser.evaluate.quality.stability import (
    max_sensitivity,
    randomisation,
    reinitialised,
)
from sigma_ser.explainers.explanation import explain, make_explainer
from sigma_ser.victims.victim import wrap

LENGTHS = torch.tensor([9, 5, 1])
MEAN, SCALE = torch.tensor([0.5, -1.0, 0.0, 2.0]), torch.tensor([1.0, 0.5, 2.0, 1.5])


class Pooled(torch.nn.Module):
    """Mean over frames of a hidden layer, with a parameter that has no reset method."""

    def __init__(self, linear: bool = False) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(4)
            self.first = torch.nn.Linear(4, 12)
            self.own = torch.nn.Parameter(torch.randn(12))
            self.last = torch.nn.Linear(12, 3)
        self.linear = linear

    def forward(self, x, lengths):
        hidden = self.first(x) * self.own
        hidden = hidden if self.linear else torch.tanh(hidden)
        valid = torch.arange(x.shape[1])[None, :] < lengths[:, None]
        return self.last((hidden * valid[:, :, None]).sum(1) / lengths[:, None]) * 5


VICTIM = wrap(Pooled().eval(), mean=MEAN, scale=SCALE)
LINEAR = wrap(Pooled(linear=True).eval(), mean=MEAN, scale=SCALE)
BATCH = FeatureBatch(
    MEAN + SCALE * torch.randn(3, 9, 4, generator=torch.Generator().manual_seed(1)), LENGTHS
)
LABELS = torch.tensor([0, 1, 2])


@pytest.fixture(scope="module")
def quantus():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pytest.importorskip("quantus", exc_type=ImportError)


@pytest.mark.parametrize("ties", [False, True])
def test_sparseness_and_complexity_are_those_of_quantus(quantus, ties):
    a = torch.rand(3, 9, 4, generator=torch.Generator().manual_seed(2))
    a = (a * 3).floor() + 1e-3 if ties else a
    for row, length in enumerate(LENGTHS.tolist()):
        a[row, length:] = 50.0
    for ours, theirs in ((gini, quantus.Sparseness), (complexity, quantus.Complexity)):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            metric = theirs(normalise=False, disable_warnings=True)
            expected = []
            for row, length in enumerate(LENGTHS.tolist()):
                one = a[row : row + 1, :length].double().numpy().copy()
                expected += metric.evaluate_batch(x_batch=one, a_batch=one).tolist()
        # quantus adds 1e-7 to every element.
        assert ours(a, LENGTHS).tolist() == pytest.approx(expected, abs=1e-5)


def test_concentration_at_its_ends():
    flat, spike = torch.ones(1, 5, 4), torch.zeros(1, 5, 4)
    spike[0, 2, 1] = 3.0
    n = torch.tensor([5])
    assert float(gini(flat, n)) == pytest.approx(0.0, abs=1e-12)
    assert float(gini(spike, n)) == pytest.approx(1 - 1 / 20)
    assert float(complexity(flat, n)) == pytest.approx(np.log(20))
    assert float(complexity(spike, n)) == pytest.approx(0.0)
    nothing = torch.zeros(1, 5, 4)
    assert bool(torch.isnan(gini(nothing, n)) & torch.isnan(complexity(nothing, n)))


def test_curves_replace_the_most_salient_first():
    """By hand: one element at a time, from the largest score down, ties by position."""
    scores = torch.rand(3, 9, 4, generator=torch.Generator().manual_seed(3))
    scores[0, 0] = 0.5
    spoilt = scores.clone()
    spoilt[2, 1:] = 9.0
    row, length = 1, 5
    falling_curve = deletion(VICTIM, BATCH, LABELS, spoilt, steps=20)[row]
    rising_curve = insertion(VICTIM, BATCH, LABELS, spoilt, steps=20)[row]
    order = scores[row, :length].flatten().argsort(descending=True, stable=True)
    for step in range(21):
        falling, growing = BATCH.x[row, :length].clone(), MEAN.expand(length, 4).clone()
        for cell in order[:step].tolist():
            t, d = divmod(cell, 4)
            falling[t, d], growing[t, d] = MEAN[d], BATCH.x[row, t, d]
        for x, curve in ((falling, falling_curve), (growing, rising_curve)):
            logits = VICTIM(x[None], torch.tensor([length])).detach()
            expected = logits.softmax(1)[0, LABELS[row]]
            assert float(curve[step]) == pytest.approx(float(expected), abs=1e-6)
    expected = np.trapezoid(falling_curve.numpy(), dx=1 / 20)
    assert float(area(falling_curve[None])) == pytest.approx(expected)


def test_the_largest_share_is_where_a_short_curve_ends():
    scores = torch.rand(3, 9, 4)
    short = deletion(VICTIM, BATCH, LABELS, scores, steps=2, upto=0.5)
    long = deletion(VICTIM, BATCH, LABELS, scores, steps=4)
    torch.testing.assert_close(short, long[:, :3])
    with pytest.raises(ExplainerError, match="share"):
        deletion(VICTIM, BATCH, LABELS, scores, upto=0.0)


def test_on_a_linear_victim_the_attribution_falls_below_the_random_map():
    """Control: input-x-gradient is exact on a linear victim, a random map is uninformative."""
    batch = FeatureBatch(
        MEAN + SCALE * torch.randn(32, 9, 4, generator=torch.Generator().manual_seed(8)),
        torch.full((32,), 9),
    )
    labels = LINEAR(batch.x, batch.lengths).argmax(1)
    how = QualitySettings(samples=0, randomise=False)
    measures = {
        name: quality(name, LINEAR, batch, labels, how=how)
        for name in ("input-x-gradient", "random")
    }
    gains = measures["input-x-gradient"]["insertion"] - measures["random"]["insertion"]
    assert float(gains.mean()) > 0
    assert "completeness" in measures["input-x-gradient"]
    assert "completeness" not in measures["random"]


def test_max_sensitivity_by_hand_and_zero_for_a_linear_gradient():
    assert max_sensitivity(
        make_explainer("gradient"), LINEAR, BATCH, LABELS
    ).tolist() == pytest.approx([0.0] * 3, abs=1e-6)
    explainer = make_explainer("gradient")
    few, many = (
        max_sensitivity(explainer, VICTIM, BATCH, LABELS, samples=n, radius=0.3) for n in (1, 6)
    )
    assert bool((few > 0).all() & (many >= few).all())
    noise = UtteranceNoise(utterance_seeds(BATCH.ids, "max-sensitivity"), LENGTHS)
    near = FeatureBatch(BATCH.x + 0.3 * SCALE * noise.uniform(BATCH.x), LENGTHS)
    before, after = (explain(explainer, VICTIM, b, LABELS).flatten(1) for b in (BATCH, near))
    expected = (after - before).norm(dim=1) / before.norm(dim=1)
    assert few.tolist() == pytest.approx(expected.tolist(), rel=1e-5)
    one = torch.tensor([1])
    alone = max_sensitivity(
        explainer, VICTIM, BATCH.select(one), LABELS[one], samples=6, radius=0.3
    )
    assert float(alone) == pytest.approx(float(many[1]), rel=1e-4)
    with pytest.raises(ExplainerError, match="radius"):
        max_sensitivity(explainer, VICTIM, BATCH, LABELS, radius=0.0)


def test_the_randomisation_check_separates_maps_that_depend_on_the_victim_from_those_that_do_not():
    dependent = randomisation(make_explainer("gradient"), VICTIM, BATCH, LABELS)
    independent = randomisation(make_explainer("random"), VICTIM, BATCH, LABELS)
    assert independent.tolist() == pytest.approx([1.0] * 3)
    assert float(dependent[:2].abs().max()) < 0.99


def test_fresh_weights_leave_the_victim_unchanged():
    before = {name: p.clone() for name, p in VICTIM.module.named_parameters()}
    state = torch.random.get_rng_state()
    fresh = reinitialised(VICTIM, 3)
    assert torch.equal(torch.random.get_rng_state(), state)
    for name, parameter in VICTIM.module.named_parameters():
        assert torch.equal(parameter, before[name])
        assert not torch.equal(dict(fresh.module.named_parameters())[name], parameter)
    again = reinitialised(VICTIM, 3)
    assert torch.equal(fresh(BATCH.x, LENGTHS), again(BATCH.x, LENGTHS))

    class Hidden:
        class_names = ()
        mean = scale = torch.tensor(1.0)

        def __call__(self, x, lengths):
            return x.sum((1, 2))[:, None]

    with pytest.raises(ExplainerError, match="has no torch module"):
        reinitialised(Hidden())
