"""Laws of every explainer: torch's default type, the scale of the logits, inference mode, threads.

The settings of the process and the caller must not reach a map, and neither must a factor of the
logits, which leaves every decision as it is.
"""

from __future__ import annotations

import copy
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch import nn

from sigma_ser.core import registry
from sigma_ser.core.errors import ExplainerError, ShapeError
from sigma_ser.core.features import FeatureBatch
from sigma_ser.explainers.explanation import explain, make_explainer
from sigma_ser.explainers.ranking import ranking_scale, ranking_scores
from sigma_ser.explainers.request import check_integers
from sigma_ser.victims.victim import wrap

EXPLAINERS = registry.names("explainer")
HEADS = {"attention": "attention"}
FEW = {
    name: {"samples": 8}
    for name in EXPLAINERS
    if "samples" in getattr(registry.get("explainer", name), "__dataclass_fields__", ())
}


def map_of(name, victim_of, batch, labels):
    """The map on a head where the explainer is at home."""
    victim = victim_of(HEADS.get(name, "cnn"))
    return explain(name, victim, batch, labels, **FEW.get(name, {}))


@pytest.fixture
def double() -> Iterator[None]:
    """Float64 as torch's default type."""
    before = torch.get_default_dtype()
    yield torch.set_default_dtype(torch.float64)
    torch.set_default_dtype(before)


@pytest.fixture(params=EXPLAINERS)
def expected(request, victim_of, batch, labels):
    """A name with its map under ordinary settings; runs before the fixture `double`."""
    return request.param, map_of(request.param, victim_of, batch, labels)


def test_the_default_type_does_not_reach_the_map(expected, double, victim_of, batch, labels):
    """Past fault: rise, occlusion and those that draw baselines failed under float64."""
    name, saliency = expected
    found = map_of(name, victim_of, batch, labels)
    assert found.dtype == torch.float32
    size = float(saliency.abs().max())
    torch.testing.assert_close(found / size, saliency / size, atol=1e-5, rtol=0.0)


class Scaled(nn.Module):
    """A module whose logits are multiplied by a factor."""

    def __init__(self, module: nn.Module, factor: float) -> None:
        super().__init__()
        self.module = module
        self.factor = factor

    def forward(self, x, lengths):
        return self.factor * self.module(x, lengths)


@pytest.mark.parametrize("factor", [2.0**-20, 1e-3, 1e3, 2.0**20])
@pytest.mark.parametrize("name", EXPLAINERS)
def test_a_factor_of_the_logits_leaves_the_ranking(name, factor, victim_of, batch, labels):
    """Past fault: the penalty of LIME was absolute, so small logits gave maps of zeros."""
    plain = victim_of(HEADS.get(name, "cnn"))
    scaled = wrap(Scaled(plain.module, factor).eval(), mean=plain.mean, scale=plain.scale)
    scores = []
    for victim in (plain, scaled):
        explainer = make_explainer(name, **FEW.get(name, {}))
        saliency = explainer(victim, batch, labels).saliency
        found = ranking_scores(
            saliency, batch.lengths, scale=ranking_scale(explainer.kind, victim, batch)
        )
        assert float(found.max()) > 0
        scores.append(found / found.amax((1, 2), keepdim=True))
    torch.testing.assert_close(scores[0], scores[1], atol=1e-4, rtol=0.0)


@pytest.mark.parametrize("name", EXPLAINERS)
def test_inference_mode_does_not_reach_the_map(name, victim_of, batch, labels):
    """Features, labels and seeds of an encoder and a caller under inference mode."""
    expected = map_of(name, victim_of, batch, labels)
    with torch.inference_mode():
        made = FeatureBatch(batch.x * 1.0, batch.lengths * 1, batch.ids)
        its_labels = labels * 1
        inside = map_of(name, victim_of, made, its_labels)
    outside = map_of(name, victim_of, made, its_labels)
    assert not inside.is_inference()
    assert torch.equal(inside, expected)
    assert torch.equal(outside, expected)


@pytest.mark.slow
def test_threads_that_explain_at_once_have_the_maps_of_one(victim_of, batch, labels):
    """Past fault: hooks of one thread changed the gradients of the others, and 44 of 100 maps."""
    alone = {name: map_of(name, victim_of, batch, labels) for name in EXPLAINERS}
    tasks = EXPLAINERS * 2
    with ThreadPoolExecutor(2) as pool:
        maps = pool.map(lambda name: map_of(name, victim_of, batch, labels), tasks)
        for name, saliency in zip(tasks, maps, strict=True):
            torch.testing.assert_close(saliency, alone[name], msg=name)


@pytest.mark.parametrize("name", ["deeplift", "guided-backprop", "grad-cam", "attention"])
def test_a_victim_called_during_an_explanation_is_as_always(name, victim_of, batch, labels):
    """Deterministic form: the plain gradient inside each forward pass of the explainer."""
    module = copy.deepcopy(victim_of(HEADS.get(name, "cnn")).module)
    plain = victim_of(HEADS.get(name, "cnn"))
    expected = explain("gradient", plain, batch, labels)
    found = []

    class Watched(nn.Module):
        def __init__(self):
            super().__init__()
            self.module = module

        def forward(self, x, lengths):
            logits = self.module(x, lengths)
            with ThreadPoolExecutor(1) as pool:
                other = wrap(module, mean=plain.mean, scale=plain.scale)
                found.append(pool.submit(explain, "gradient", other, batch, labels).result())
            return logits

    explain(name, wrap(Watched().eval(), mean=plain.mean, scale=plain.scale), batch, labels)
    assert found
    for saliency in found:
        assert torch.equal(saliency, expected)


@pytest.mark.parametrize("name", EXPLAINERS)
def test_truth_values_are_not_class_indices(name, victim_of, batch, labels):
    """Past fault: bool labels were explained as the classes 0 and 1."""
    # In this test run the type checker may raise before the explainer does.
    with pytest.raises((ShapeError, TypeError), match="labels"):
        map_of(name, victim_of, batch, labels.bool())
    with pytest.raises((ShapeError, TypeError), match="labels"):
        map_of(name, victim_of, batch, labels + 0j)


def test_a_victim_that_cannot_be_copied_is_an_error(victim_of, batch, labels):
    module = copy.deepcopy(victim_of("cnn").module)
    module.lock = threading.Lock()
    victim = wrap(module.eval())
    with pytest.raises(ExplainerError, match=r"cannot be copied .* occlusion"):
        explain("deeplift", victim, batch, labels)
    explain("guided-backprop", victim, batch, labels)


def test_class_indices_are_checked_without_a_type_checker(labels):
    """Past fault: bool labels were explained as the classes 0 and 1."""
    check_integers("labels", labels.to(torch.uint8), 3)
    for wrong in (labels.bool(), labels.float(), labels + 0j, labels[:2], labels[None]):
        with pytest.raises(ShapeError, match=r"labels must be an integer tensor of shape \(3,\)"):
            check_integers("labels", wrong, 3)
    with pytest.raises((ShapeError, TypeError), match=r"torch.tensor|Tensor"):
        check_integers("labels", [0, 3, 1], 3)
