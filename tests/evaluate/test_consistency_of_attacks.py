"""`consistency`: its keys, both explained classes, floor and ceiling, number of explanations."""

from __future__ import annotations

import pytest
import torch

from sigma_ser.core.audit import audit
from sigma_ser.core.budget import GRANULARITIES, Budget
from sigma_ser.core.errors import ExplainerError, ShapeError
from sigma_ser.core.features import FeatureBatch
from sigma_ser.core.rows import CONSISTENCY_METRICS
from sigma_ser.evaluate.consistency import (
    compare,
    consistency,
    consistency_ceiling,
    consistency_floor,
    random_perturbation,
)
from sigma_ser.explainers.classes import predicted
from sigma_ser.explainers.explanation import explain, make_explainer
from sigma_ser.masks.topk import topk_mask
from sigma_ser.victims.victim import wrap

SCALE = torch.tensor([0.5, 1.0, 4.0, 2.0])
BUDGET = Budget(sparsity=0.2, epsilon=3.0)


class Curved(torch.nn.Module):
    """Mean over frames, one hidden layer."""

    def __init__(self) -> None:
        super().__init__()
        rng = torch.Generator().manual_seed(5)
        self.first = torch.randn(4, 16, generator=rng)
        self.last = torch.randn(16, 3, generator=rng)

    def forward(self, x, lengths):
        valid = torch.arange(x.shape[1])[None, :] < lengths[:, None]
        pooled = (torch.tanh(x @ self.first) * valid[:, :, None]).sum(1) / lengths[:, None]
        return pooled @ self.last


VICTIM = wrap(Curved().eval(), scale=SCALE)
BATCH = FeatureBatch(
    torch.randn(4, 14, 4, generator=torch.Generator().manual_seed(6)), torch.tensor([14, 9, 12, 5])
)
LABELS = predicted(VICTIM, BATCH)
X_ADV = random_perturbation(VICTIM, BATCH, BUDGET)


def test_the_keys_are_those_of_the_rows():
    plain = consistency("gradient", VICTIM, BATCH, X_ADV, LABELS, BUDGET)
    whole = consistency(
        "gradient", VICTIM, BATCH, X_ADV, LABELS, BUDGET, mask=BATCH.x != X_ADV, frame_seconds=0.02
    )
    own = {f"{name}_own" for name in CONSISTENCY_METRICS}
    assert set(whole) == {*CONSISTENCY_METRICS, *own, "mask_mass", "mask_mass_clean"}
    assert set(plain) == set(whole) - {
        "centre_shift", "centre_shift_own", "mask_mass", "mask_mass_clean"
    }  # fmt: skip
    assert all(values.shape == (4,) for values in whole.values())
    floor = consistency_floor("gradient", VICTIM, BATCH, LABELS, BUDGET, frame_seconds=0.02)
    assert set(floor) == {f"{name}_floor" for name in CONSISTENCY_METRICS}


def test_the_own_class_is_explained_where_the_prediction_changed():
    """`_own` compares the explanations of the predictions, whatever `labels` are."""
    other = (LABELS + 1) % 3
    attacked = FeatureBatch(X_ADV, BATCH.lengths)
    before = explain("gradient-margin", VICTIM, BATCH, predicted(VICTIM, BATCH))
    after = explain("gradient-margin", VICTIM, attacked, predicted(VICTIM, attacked))
    expected = compare(before, after, BATCH.lengths, BUDGET, scale=SCALE)
    scores = consistency("gradient-margin", VICTIM, BATCH, X_ADV, other, BUDGET)
    for name, values in expected.items():
        torch.testing.assert_close(scores[f"{name}_own"], values)
    assert not torch.allclose(scores["cosine"], scores["cosine_own"])


def test_a_known_clean_map_is_not_made_again():
    class Counting:
        kind = "attribution"
        calls = 0

        def __call__(self, victim, batch, labels, *, seeds=None):
            self.calls += 1
            return make_explainer("integrated-gradients")(victim, batch, labels, seeds=seeds)

    counting = Counting()
    clean = explain(counting, VICTIM, BATCH, LABELS)
    known = consistency(counting, VICTIM, BATCH, X_ADV, LABELS, BUDGET, clean=clean, own=False)
    assert counting.calls == 2
    afresh = consistency(counting, VICTIM, BATCH, X_ADV, LABELS, BUDGET, own=False)
    assert counting.calls == 4
    assert all(torch.equal(known[name], afresh[name]) for name in afresh)


def test_the_top_k_of_a_gradient_is_ranked_as_its_masks_are():
    """Past fault: sets were ranked by |A| and masks by |A| * scale."""
    a = explain("gradient", VICTIM, BATCH, LABELS)
    b = explain("gradient", VICTIM, FeatureBatch(X_ADV, BATCH.lengths), LABELS)
    sets = [topk_mask(m, BATCH.lengths, BUDGET, scale=SCALE) for m in (a, b)]
    expected = (sets[0] & sets[1]).sum((1, 2)) / sets[0].sum((1, 2))
    scores = consistency("gradient", VICTIM, BATCH, X_ADV, LABELS, BUDGET)
    assert scores["topk_intersection"].tolist() == pytest.approx(expected.tolist())


def test_an_untouched_input_keeps_its_explanation_and_stochastic_ones_their_noise():
    for name in ("gradient", "random"):
        scores = consistency(name, VICTIM, BATCH, BATCH.x, LABELS, BUDGET)
        for metric in ("topk_intersection", "iou", "spearman", "cosine", "ssim_time"):
            assert scores[metric].tolist() == pytest.approx([1.0] * 4), (name, metric)


def test_an_utterance_has_the_same_scores_alone():
    together = consistency("gradient", VICTIM, BATCH, X_ADV, LABELS, BUDGET, frame_seconds=0.02)
    for row in range(4):
        one = torch.tensor([row])
        part = BATCH.select(one)
        alone = consistency(
            "gradient",
            VICTIM,
            part,
            X_ADV[one, : part.x.shape[1]],
            LABELS[one],
            BUDGET,
            frame_seconds=0.02,
        )
        for name, values in together.items():
            assert float(alone[name]) == pytest.approx(float(values[row]), abs=1e-5), name


@pytest.mark.parametrize("granularity", GRANULARITIES)
def test_the_random_perturbation_spends_the_budget_inside_its_mask(granularity):
    budget = Budget(sparsity=0.25, epsilon=0.5, granularity=granularity, segment_frames=3)
    saliency = explain("random", VICTIM, BATCH, LABELS)
    mask = topk_mask(saliency, BATCH.lengths, budget, 2)
    x = random_perturbation(VICTIM, BATCH, budget, mask=mask)
    audit(BATCH, x, budget, SCALE, mask)
    changed = x != BATCH.x
    units = budget.units(BATCH.lengths, 4)
    assert torch.equal(budget.touched(changed, BATCH.lengths), units)
    moved = ((x - BATCH.x).abs() / SCALE)[changed]
    torch.testing.assert_close(moved, torch.full_like(moved, 0.5))
    one = torch.tensor([2])
    alone = random_perturbation(VICTIM, BATCH.select(one), budget, mask=mask[one, :12])
    assert torch.equal(alone[0], x[2, :12])


def test_the_ceiling_is_one_for_deterministic_explainers():
    ceiling = consistency_ceiling(
        "integrated-gradients", VICTIM, BATCH, LABELS, BUDGET, frame_seconds=0.02
    )
    assert set(ceiling) == {f"{name}_ceiling" for name in CONSISTENCY_METRICS}
    assert ceiling.pop("centre_shift_ceiling").tolist() == [0.0] * 4
    for name, values in ceiling.items():
        assert values.tolist() == pytest.approx([1.0] * 4), name
    noisy = consistency_ceiling("random", VICTIM, BATCH, LABELS, BUDGET)
    assert float(noisy["spearman_ceiling"].abs().max()) < 0.6


def test_the_ceiling_of_a_stochastic_explainer_lies_below_one_and_depends_on_its_samples():
    few, many = (
        consistency_ceiling("smoothgrad", VICTIM, BATCH, LABELS, BUDGET, samples=n, stdev=1.0)
        for n in (2, 200)
    )
    assert bool((few["cosine_ceiling"] < 1 - 1e-6).all())
    assert bool((many["cosine_ceiling"] > few["cosine_ceiling"]).all())


def test_the_ceiling_follows_the_seeds_and_takes_a_known_map():
    seeds = torch.tensor([3, 1, 4, 1])
    clean = explain("smoothgrad", VICTIM, BATCH, LABELS, seeds=seeds)
    arguments = ("smoothgrad", VICTIM, BATCH, LABELS, BUDGET)
    first = consistency_ceiling(*arguments, seeds=seeds)
    known = consistency_ceiling(*arguments, seeds=seeds, clean=clean)
    other = consistency_ceiling(*arguments, seeds=seeds + 10)
    assert torch.equal(first["cosine_ceiling"], known["cosine_ceiling"])
    assert not torch.equal(first["cosine_ceiling"], other["cosine_ceiling"])


def test_wrong_arguments_have_typed_errors():
    with pytest.raises(ShapeError, match="x_adv"):
        consistency("gradient", VICTIM, BATCH, X_ADV[:, :3], LABELS, BUDGET)
    explainer = make_explainer("gradient")
    with pytest.raises(ExplainerError, match="settings output were given with an explainer object"):
        consistency(explainer, VICTIM, BATCH, X_ADV, LABELS, BUDGET, output="margin")
    with pytest.raises(ExplainerError, match="settings output were given with an explainer object"):
        consistency_ceiling(explainer, VICTIM, BATCH, LABELS, BUDGET, output="margin")
