"""Laws that every explainer keeps on every head; a new one of either is tested by itself."""

from __future__ import annotations

import pytest
import torch
from jaxtyping import TypeCheckError

from sigma_ser.core import registry
from sigma_ser.core.contracts import Explainer
from sigma_ser.core.errors import ExplainerError, ShapeError
from sigma_ser.explainers.explanation import explanation, make_explainer

EXPLAINERS = registry.names("explainer")
HEADS = registry.names("head")

# The laws hold for any number of samples, and few of them are quick.
FEW = {
    name: {"samples": 8}
    for name in EXPLAINERS
    if "samples" in getattr(registry.get("explainer", name), "__dataclass_fields__", ())
}
# Refusals are lawful only for these, each for a reason its module states.
MAY_REFUSE = {"deeplift", "deeplift-shap", "guided-backprop", "grad-cam", "attention"}


def alone(batch, labels, row):
    """One utterance without its company, cut to its own length."""
    return batch.select(torch.tensor([row])), labels[row : row + 1]


def refused(name, victim, batch, labels):
    """Whether the explainer will not explain this."""
    try:
        explanation(name, victim, batch, labels, **FEW.get(name, {}))
    except ExplainerError:
        return True
    return False


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("name", EXPLAINERS)
def test_every_explainer_is_exact_under_padding_on_every_head(name, head, victim_of, batch, labels):
    """Law: zero on padding, the same alone and in company, each pass booked to its utterance."""
    victim = victim_of(head)
    try:
        together = explanation(name, victim, batch, labels, **FEW.get(name, {}))
    except ExplainerError:
        if name not in MAY_REFUSE:
            raise
        assert any(refused(name, victim, *alone(batch, labels, row)) for row in range(3))
        return
    saliency = together.saliency
    assert saliency.dtype == torch.float32
    assert saliency.shape == batch.x.shape
    assert not saliency.requires_grad
    assert bool((saliency[~batch.valid] == 0).all())
    for row in (1, 2):
        single = explanation(name, victim, *alone(batch, labels, row), **FEW.get(name, {}))
        length = int(batch.lengths[row])
        size = float(saliency[row].abs().max()) or 1.0
        torch.testing.assert_close(
            single.saliency[0] / size, saliency[row, :length] / size, atol=1e-5, rtol=0
        )
        assert int(single.forwards[0]) == int(together.forwards[row])
        assert int(single.backwards[0]) == int(together.backwards[row])


@pytest.mark.parametrize("name", EXPLAINERS)
def test_an_explainer_says_what_it_is_and_repeats_itself(name, victim_of, batch, labels):
    """Law: `repr` is the configuration, seeds fix the map, the caller's world stays as it was."""
    explainer = make_explainer(name, **FEW.get(name, {}))
    assert isinstance(explainer, Explainer)
    assert explainer.kind in ("gradient", "attribution")
    assert repr(explainer) == repr(make_explainer(name, **FEW.get(name, {})))
    victim = victim_of("attention" if name == "attention" else "cnn")
    hooks = [len(module._forward_hooks) for module in victim.module.modules()]
    seeds = torch.tensor([5, 6, 7])
    before = torch.random.get_rng_state()
    with torch.no_grad():
        first = explainer(victim, batch, labels, seeds=seeds).saliency
        second = explainer(victim, batch, labels, seeds=seeds).saliency
    assert torch.equal(first, second)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert [len(module._forward_hooks) for module in victim.module.modules()] == hooks
    assert all(parameter.grad is None for parameter in victim.module.parameters())


# The others ask the module for more than its logits, or for nothing at all.
@pytest.mark.parametrize("name", sorted(set(EXPLAINERS) - MAY_REFUSE - {"random"}))
def test_a_victim_gone_wrong_is_an_error_and_never_a_map(name, victim_of, batch, labels):
    """Past fault: NaN logits gave a map of zeros after padding was cleared."""

    class Broken:
        class_names = ()
        mean = torch.tensor(0.0)
        scale = torch.tensor(1.0)

        def __call__(self, x, lengths):
            return x.sum((1, 2))[:, None] * torch.tensor([1.0, torch.nan, 1.0, 1.0])

    with pytest.raises(ExplainerError, match=r"NaN|finite"):
        explanation(name, Broken(), batch, labels, **FEW.get(name, {}))


def test_what_cannot_be_explained_says_what_to_do(victim_of, batch, labels):
    """Past faults: tracebacks of numpy and of attributes that are not there."""
    victim = victim_of("linear")
    refused = (ExplainerError, ShapeError, TypeCheckError)
    for settings, said in (
        ({"steps": 8.5}, "steps .* whole number"),
        ({"steps": "8"}, "steps .* whole number"),
        ({"n_steps": 8}, "no setting 'n_steps'; did you mean steps. known settings: .*steps"),
    ):
        with pytest.raises(refused, match=said):
            explanation("integrated-gradients", victim, batch, labels, **settings)
    with pytest.raises(refused, match=r"FeatureBatch|batch"):
        explanation("gradient", victim, batch.x, labels)
