"""Explainers on a linear victim in closed form, and the arguments that they refuse."""

from __future__ import annotations

import pytest
import torch
from captum.attr import IntegratedGradients as CaptumIntegratedGradients

from sigma_ser.core.errors import ExplainerError, ShapeError, UnknownNameError
from sigma_ser.core.features import FeatureBatch
from sigma_ser.explainers.classes import explained_class, predicted, runner_up
from sigma_ser.explainers.explanation import explain, explanation, make_explainer


def slopes(victim, batch, labels):
    """`d z_y / d x` of mean pooling and a linear layer behind a standardisation."""
    weight = victim.module.head.classify.weight[labels] / victim.module.scale
    return (weight[:, None, :] / batch.lengths[:, None, None]) * batch.valid[:, :, None]


def test_gradient_is_the_weight_over_length_and_scale(victim_of, batch, labels):
    victim = victim_of("linear")
    explained = explanation("gradient", victim, batch, labels)
    torch.testing.assert_close(explained.saliency, slopes(victim, batch, labels))
    assert explained.forwards.tolist() == explained.backwards.tolist() == [1, 1, 1]


def test_gradient_margin_is_the_difference_to_the_strongest_other_class(victim_of, batch, labels):
    victim = victim_of("linear")
    rival = runner_up(victim, batch, labels)
    expected = slopes(victim, batch, labels) - slopes(victim, batch, rival)
    torch.testing.assert_close(explain("gradient-margin", victim, batch, labels), expected)


@pytest.mark.parametrize("name", ["input-x-gradient", "integrated-gradients"])
def test_attributions_are_weight_times_distance_from_the_mean(name, victim_of, batch, labels):
    victim = victim_of("linear")
    explained = explanation(name, victim, batch, labels)
    expected = (batch.x - victim.mean) * slopes(victim, batch, labels)
    torch.testing.assert_close(explained.saliency, expected)
    assert float(explained.completeness.abs().max()) < 1e-5


def test_integrated_gradients_use_one_gradient_for_each_step(victim_of, batch, labels):
    for rows in (1, 2, 5, 64):
        explained = explanation(
            "integrated-gradients", victim_of("bilstm"), batch, labels, steps=12, rows=rows
        )
        assert explained.forwards.tolist() == [14, 14, 14]
        assert explained.backwards.tolist() == [12, 12, 12]


@pytest.mark.parametrize("head", ["mlp", "cnn", "bilstm"])
@pytest.mark.parametrize("rows", [2, 7, 64])
def test_integrated_gradients_equal_those_of_captum(head, rows, victim_of, batch, labels):
    victim = victim_of(head)
    x = batch.x.masked_fill(~batch.valid[:, :, None], 0.0)
    expected = CaptumIntegratedGradients(victim).attribute(
        x,
        baselines=victim.mean.expand(x.shape),
        target=labels,
        additional_forward_args=(batch.lengths,),
        n_steps=9,
    )
    explained = explain("integrated-gradients", victim, batch, labels, steps=9, rows=rows)
    expected = expected.masked_fill(~batch.valid[:, :, None], 0.0).float()
    torch.testing.assert_close(explained, expected, atol=1e-6, rtol=1e-4)


def test_the_predicted_class_ignores_padding(victim_of, batch):
    victim = victim_of("cnn")
    alone = [int(predicted(victim, batch.select(torch.tensor([row])))) for row in range(3)]
    assert predicted(victim, batch).tolist() == alone
    assert explained_class("predicted", victim, batch).tolist() == alone


def test_the_explained_class_is_chosen_by_name(victim_of, batch, labels):
    victim = victim_of("linear")
    assert explained_class("true", victim, batch, true=labels) is labels
    assert explained_class("target", victim, batch, target=labels) is labels
    with pytest.raises(ExplainerError, match="true="):
        explained_class("true", victim, batch)
    with pytest.raises(ExplainerError, match="predicted, true or target"):
        explained_class("loudest", victim, batch)


def test_wrong_arguments_have_typed_errors(victim_of, batch, labels):
    victim = victim_of("linear")
    with pytest.raises(UnknownNameError, match="integrated-gradients"):
        explain("integrated-gradient", victim, batch, labels)
    with pytest.raises(ExplainerError, match="steps"):
        make_explainer("integrated-gradients", stepps=3)
    with pytest.raises(ExplainerError, match="at least 1"):
        make_explainer("integrated-gradients", steps=0)
    # In this test run the type checker may raise before the explainer does.
    with pytest.raises((ExplainerError, TypeError), match=r"logit.*margin"):
        make_explainer("gradient", output="probability")
    with pytest.raises(ExplainerError, match="make_explainer"):
        explain(make_explainer("gradient"), victim, batch, labels, output="margin")
    with pytest.raises((ShapeError, TypeError), match="labels"):
        explain("gradient", victim, batch, labels[:2])
    with pytest.raises(ShapeError, match="4 classes"):
        explain("gradient", victim, batch, labels + 4)
    with pytest.raises((ShapeError, TypeError), match="seeds"):
        explain("random", victim, batch, labels, seeds=torch.tensor([1]))


def test_a_victim_without_gradient_is_an_error(batch, labels):
    class Deaf:
        class_names = ()
        mean = torch.tensor(0.0)
        scale = torch.tensor(1.0)

        def __call__(self, x, lengths):
            return x.detach().sum((1, 2))[:, None].expand(-1, 4)

    with pytest.raises(ExplainerError, match="no gradient reaches"):
        explain("gradient", Deaf(), batch, labels)


def test_an_explainer_that_returns_nan_is_an_error(victim_of, batch, labels):
    class Wrong:
        kind = "attribution"

        def __call__(self, victim, batch, labels, *, seeds=None):
            explained = make_explainer("random")(victim, batch, labels)
            explained.saliency[0, 0, 0] = torch.nan
            return explained

    with pytest.raises(ExplainerError, match="finite map"):
        explain(Wrong(), victim_of("linear"), batch, labels)


def test_an_empty_batch_has_an_empty_map(victim_of):
    empty = FeatureBatch(torch.zeros(0, 5, 6), torch.zeros(0, dtype=torch.long))
    for name in ("gradient", "integrated-gradients", "random"):
        assert explain(name, victim_of("linear"), empty, torch.zeros(0).long()).shape == (0, 5, 6)
