"""Values on padding never reach a victim and never change a result, NaN included."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

import sigma_ser as ss
from sigma_ser.core import registry
from sigma_ser.core.features import ordinary, valid_frames, zero_padding
from sigma_ser.core.passes import CountedVictim
from sigma_ser.evaluate.outcome import outcome

LENGTHS = torch.tensor([10, 4, 6, 3])
BUDGET = ss.Budget(count=4, epsilon=1.0)


class TrustsPadding(nn.Linear):
    """Sums over all frames, so its logits are exact only with zeros on padding."""

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        padding = x[~valid_frames(lengths, x.shape[1])]
        assert not padding.any(), "a value on padding reached the module"
        return super().forward(torch.tanh(x).sum(1) / lengths[:, None])


@pytest.fixture
def victim() -> ss.Victim:
    torch.manual_seed(0)
    # The channel means, which explainers use as a baseline, are not zero.
    return ss.wrap(TrustsPadding(6, 3).eval(), mean=torch.linspace(-1, 1, 6))


def _with_padding(value: float) -> Tensor:
    x = torch.randn(4, 10, 6, generator=torch.Generator().manual_seed(5))
    return x.masked_fill(~valid_frames(LENGTHS, 10)[:, :, None], value)


@pytest.mark.parametrize("value", [50.0, float("nan"), float("inf")])
def test_a_batch_has_zeros_on_padding(value: float) -> None:
    x = _with_padding(value)
    batch = ss.FeatureBatch(x, LENGTHS)
    assert torch.equal(batch.x, _with_padding(0.0))
    assert x[1, 9, 0].eq(value) or x[1, 9, 0].isnan()  # the argument is not changed
    assert torch.equal(batch.select(torch.tensor([1, 3])).x, _with_padding(0.0)[[1, 3], :4])


def test_a_batch_without_values_on_padding_is_not_copied() -> None:
    clean = _with_padding(0.0)
    assert ss.FeatureBatch(clean, LENGTHS).x.data_ptr() == clean.data_ptr()
    assert zero_padding(clean, LENGTHS) is clean


@pytest.mark.parametrize("value", [50.0, float("nan")])
@pytest.mark.parametrize("name", ["dual-averaging", "spgd", "sparse-rs", "homotopy"])
def test_attacks_ignore_padding(victim: ss.Victim, name: str, value: float) -> None:
    # A past fault: a module that trusts padding lost utterances before anything had changed, and
    # NaN on padding ended in an error that accused the attack.
    labels = victim(_with_padding(0.0), LENGTHS).argmax(1)
    ids = list("abcd")
    expected, found = (
        ss.make_attack(name, max_passes=60)(
            victim, ss.FeatureBatch(x, LENGTHS, ids), labels, BUDGET
        )
        for x in (_with_padding(0.0), _with_padding(value))
    )
    assert expected.steps.all()
    for field in ("x_adv", "success", "prediction", "steps", "forwards", "backwards"):
        assert torch.equal(getattr(found, field), getattr(expected, field)), field


@pytest.mark.parametrize("name", registry.names("explainer"))
def test_no_explainer_passes_values_on_padding_to_the_victim(victim: ss.Victim, name: str) -> None:
    batch = ss.FeatureBatch(_with_padding(float("nan")), LENGTHS)
    labels = victim(batch.x, LENGTHS).argmax(1)
    try:
        saliency = ss.explain(name, victim, batch, labels)
    except ss.errors.ExplainerError:
        pytest.skip("this method needs a particular module, such as a convolution")
    assert torch.isfinite(saliency).all()
    assert not saliency[~batch.valid].any()


def test_evaluation_and_masks_ignore_padding(victim: ss.Victim) -> None:
    columns, masks = [], []
    for value in (0.0, float("nan")):
        batch = ss.FeatureBatch(_with_padding(value), LENGTHS, list("abcd"))
        labels = victim(_with_padding(value), LENGTHS).argmax(1)
        result = ss.make_attack("oneshot")(victim, batch, labels, BUDGET)
        columns.append(
            outcome(victim, batch, labels, BUDGET, result, seconds=1.0, class_names=("a", "b", "c"))
        )
        masks.append(ss.topk_mask(batch.x, LENGTHS, BUDGET))
    assert columns[0] == columns[1]
    assert torch.equal(masks[0], masks[1])


class Foreign:
    """A victim that is not made by `wrap`, and trusts padding."""

    class_names = ()
    mean, scale = torch.ones(6), torch.ones(6)

    def __init__(self) -> None:
        self.module = TrustsPadding(6, 3).eval()

    def __call__(self, x: Tensor, lengths: Tensor) -> Tensor:
        return self.module(x, lengths)


def test_victims_of_other_classes_receive_zeros_on_padding_too() -> None:
    batch = ss.FeatureBatch(_with_padding(7.0), LENGTHS)
    counted = CountedVictim(Foreign(), batch)
    # The gradient on padding is zero as well, because nothing there has an influence.
    x = _with_padding(7.0).requires_grad_()
    counted(x, LENGTHS)[:, 0].sum().backward()
    assert x.grad is not None
    assert not x.grad[~batch.valid].any()


def test_tensors_of_inference_mode_become_ordinary_ones() -> None:
    with torch.inference_mode():
        x, lengths = _with_padding(3.0) * 1.0, LENGTHS.int() + 0
        inside = ss.FeatureBatch(_with_padding(3.0), LENGTHS.int())
    outside = ss.FeatureBatch(x, lengths)
    for batch in (inside, outside):
        assert not batch.x.is_inference()
        assert not batch.lengths.is_inference()
        assert torch.equal(batch.x, _with_padding(0.0))
    plain = torch.ones(2)
    assert ordinary(plain) is plain
