"""Explainers of layers on victims whose modules run in other ways than they are registered."""

from __future__ import annotations

import copy

import pytest
import torch
from captum.attr import GuidedBackprop as CaptumGuidedBackprop
from captum.attr import LayerGradCam
from torch import nn

from sigma_ser.core.errors import ExplainerError
from sigma_ser.core.features import FeatureBatch
from sigma_ser.explainers.explanation import explain, explanation
from sigma_ser.explainers.ranking import zero_map_share
from sigma_ser.victims.victim import wrap


class Frames(nn.Module):
    """A network of two ReLU on the mean frame; the same module twice, or functions."""

    def __init__(self, kind: str, factor: float = 1.0) -> None:
        super().__init__()
        self.kind, self.factor = kind, factor
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.enter, self.mix = nn.Linear(6, 9), nn.Linear(9, 7)
            self.leave = nn.Linear(7, 4)
        self.rectify, self.again = nn.ReLU(), nn.ReLU()

    def forward(self, x, lengths):
        first, second = {
            "modules": (self.rectify, self.again),
            "shared": (self.rectify, self.rectify),
            "functions": (torch.relu, torch.relu),
            "on weights": (nn.Identity(), nn.Identity()),
        }[self.kind]
        h = second(self.mix(first(self.enter(x.sum(1) / lengths[:, None]))))
        # A ReLU that lies on no path from the features.
        weight = self.leave.weight.relu() if self.kind == "on weights" else self.leave.weight
        return self.factor * nn.functional.linear(h, weight, self.leave.bias)


@pytest.mark.parametrize("kind", ["modules", "shared", "functions"])
def test_guided_backprop_includes_every_relu_that_runs(kind, batch, labels):
    """Reference: Captum on separate modules. Past fault: functions gave the plain gradient."""
    reference = Frames("modules").eval()
    x = batch.x.masked_fill(~batch.valid[:, :, None], 0.0).requires_grad_()
    with pytest.warns(UserWarning, match="ReLU"):
        expected = CaptumGuidedBackprop(reference).attribute(
            x, target=labels, additional_forward_args=(batch.lengths,)
        )
    expected = expected.masked_fill(~batch.valid[:, :, None], 0.0)
    victim = wrap(Frames(kind).eval())
    found = explain("guided-backprop", victim, batch, labels)
    assert torch.equal(found, expected)
    assert not torch.allclose(found, explain("gradient", victim, batch, labels))


def test_guided_backprop_without_a_relu_on_the_path_is_an_error(batch, labels):
    """Past fault: an unused ReLU module was enough for the plain gradient."""
    with pytest.raises(ExplainerError, match=r"no ReLU runs .* use gradient"):
        explain("guided-backprop", wrap(Frames("on weights").eval()), batch, labels)


@pytest.mark.filterwarnings("default")  # those of the compiler
def test_a_compiled_victim_is_explained_as_the_original(batch, labels):
    """Past fault: graphs compiled before the hooks were registered ignored them."""

    class Rectified(nn.Sequential):
        def forward(self, x, lengths):
            return super().forward(x.sum(1) / lengths[:, None])

    with torch.random.fork_rng():
        torch.manual_seed(0)
        module = Rectified(nn.Linear(6, 9), nn.ReLU(), nn.Linear(9, 4)).eval()
    victim = wrap(torch.compile(module, backend="eager"))
    explain("gradient", victim, batch, labels)
    for name in ("guided-backprop", "deeplift"):
        expected = explain(name, wrap(module), batch, labels)
        torch.testing.assert_close(explain(name, victim, batch, labels), expected)


@pytest.mark.parametrize("name", ["deeplift", "deeplift-shap"])
def test_deeplift_of_a_reused_module_is_an_error_that_leaves_no_trace(name, batch, labels):
    """Past fault: Captum's RuntimeError."""
    module = Frames("shared").eval()
    before = copy.deepcopy(vars(module.rectify))
    with pytest.raises(ExplainerError, match=r"called once .* use integrated-gradients"):
        explain(name, wrap(module), batch, labels)
    assert vars(module.rectify).keys() == before.keys()
    assert not module.rectify._forward_hooks
    assert not module.rectify._backward_hooks


@pytest.mark.parametrize("factor", [1e-4, 0.1, 1.0, 1e4])
def test_deeplift_is_checked_relative_to_the_change_of_the_logits(factor, batch, labels):
    """Past fault: an absolute floor accepted small logits with any error."""
    with pytest.raises(ExplainerError, match="not complete"):
        explain("deeplift", wrap(Frames("functions", factor).eval()), batch, labels)
    explained = explanation("deeplift", wrap(Frames("modules", factor).eval()), batch, labels)
    change = explained.saliency.sum((1, 2)) - explained.completeness
    assert bool((explained.completeness.abs() <= 1e-4 * change.abs().clamp(min=factor)).all())


class Convolutions(nn.Module):
    """Two convolutions over time, and modules that do not run last or have no time axis."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind = kind
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.mix = nn.Conv1d(6, 8, 3, padding=1)
            self.enter = nn.Conv1d(6, 6, 3, padding=1)
            self.squeeze = nn.Conv1d(8, 8, 1)
            self.unused = nn.Conv1d(8, 2, 1)
            self.hidden, self.attend = nn.Conv1d(8, 5, 1), nn.Conv1d(5, 1, 1)
            self.leave = nn.Linear(8, 4)

    def forward(self, x, lengths):
        valid = (torch.arange(x.shape[1]) < lengths[:, None])[:, None]
        h = self.mix(self.enter(x.transpose(1, 2)) * valid).relu() * valid
        mean = h.sum(2, keepdim=True) / lengths[:, None, None]
        if self.kind == "squeeze and excitation":
            mean = mean * self.squeeze(mean).sigmoid()
        elif self.kind == "unused output":
            self.unused(h)
        elif self.kind == "attention":
            scores = self.attend(self.hidden(h).tanh()).masked_fill(~valid, -torch.inf)
            mean = (h * scores.softmax(2)).sum(2, keepdim=True)
        return self.leave(mean[:, :, 0])


def layer_map(module, layer, batch, labels):
    """Reference: Captum's Grad-CAM of a layer, each utterance at its own length."""
    maps = torch.zeros(batch.x.shape)
    for row, length in enumerate(batch.lengths.tolist()):
        frames = LayerGradCam(module, layer).attribute(
            batch.x[row : row + 1, :length],
            target=labels[row : row + 1],
            additional_forward_args=(batch.lengths[row : row + 1],),
            relu_attributions=True,
        )
        maps[row, :length] = frames[0, 0, :, None].detach()
    return maps


@pytest.mark.parametrize("kind", ["plain", "squeeze and excitation", "unused output", "attention"])
def test_grad_cam_uses_the_last_convolution_over_time(kind, batch, labels):
    """Past faults: the one registered last; Captum's AssertionError where it does not run."""
    module = Convolutions(kind).eval()
    expected = layer_map(module, module.mix, batch, labels)
    explained = explanation("grad-cam", wrap(module), batch, labels)
    torch.testing.assert_close(explained.saliency, expected)
    assert zero_map_share(expected, batch.lengths) < 1.0
    assert explained.forwards.tolist() == explained.backwards.tolist() == [1, 1, 1]


def test_grad_cam_of_ecapa_uses_the_features_that_are_pooled(victim_of, batch, labels):
    """Past fault: the logits of the attention, whose weights are zero up to rounding (1e-10)."""
    victim = victim_of("ecapa")
    expected = layer_map(victim.module, victim.module.head.join.convolution, batch, labels)
    found = explain("grad-cam", victim, batch, labels)
    torch.testing.assert_close(found, expected)
    assert float(found.max()) > 1e-3
    attention = layer_map(victim.module, victim.module.head.pool.score[2], batch, labels)
    assert float(attention.max()) < 1e-6 * float(found.max())


def test_grad_cam_without_a_convolution_over_time_is_an_error(batch, labels):
    class Pooled(nn.Module):
        def __init__(self):
            super().__init__()
            self.unused, self.leave = nn.Conv1d(6, 6, 1), nn.Linear(6, 4)

        def forward(self, x, lengths):
            return self.leave(x.sum(1) / lengths[:, None])

    with pytest.raises(ExplainerError, match=r"Conv1d.* use gradient or occlusion"):
        explain("grad-cam", wrap(Pooled().eval()), batch, labels)


def test_attention_weights_of_a_module_that_does_not_run_are_an_error(victim_of, batch, labels):
    class Beside(nn.Module):
        def __init__(self):
            super().__init__()
            self.unused = victim_of("attention").module.head
            self.leave = nn.Linear(6, 4)

        def forward(self, x, lengths):
            return self.leave(x.sum(1) / lengths[:, None])

    with pytest.raises(ExplainerError, match="no attention weights"):
        explain("attention", wrap(Beside().eval()), batch, labels)


@pytest.mark.parametrize("name", ["deeplift", "deeplift-shap", "guided-backprop", "gradient"])
def test_a_victim_that_detaches_its_features_is_an_error(name, batch, labels):
    """With trainable parameters the logits have a gradient, but not one of the features."""

    class Detached(Frames):
        def forward(self, x, lengths):
            return super().forward(x.detach(), lengths)

    with pytest.raises(ExplainerError, match="occlusion"):
        explain(name, wrap(Detached("modules").eval()), batch, labels)


def test_a_single_frame_has_a_map(victim_of):
    batch = FeatureBatch(torch.ones(1, 1, 6), torch.tensor([1]))
    for head in ("cnn", "ecapa"):
        saliency = explain("grad-cam", victim_of(head), batch, torch.tensor([1]))
        assert saliency.shape == (1, 1, 6)
