"""Laws that every explainer keeps on every head; a new one of either is tested by itself."""

from __future__ import annotations

import pytest
import torch
from jaxtyping import TypeCheckError

from sigma_ser.core import registry
from sigma_ser.core.errors import ExplainerError, ShapeError
from sigma_ser.explainers.explanation import explanation, make_explainer
from sigma_ser.testing import check_explainer

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
    """Whether the explainer refuses this task."""
    try:
        explanation(name, victim, batch, labels, **FEW.get(name, {}))
    except ExplainerError:
        return True
    return False


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("name", EXPLAINERS)
def test_every_explainer_passes_the_conformance_suite_on_every_head(
    name, head, victim_of, batch, labels
):
    """Law: zero on padding, the same alone and in company, seeds, no trace on the victim."""
    victim = victim_of(head)
    try:
        check_explainer(
            make_explainer(name, **FEW.get(name, {})), victim=victim, batch=batch, labels=labels
        )
    except ExplainerError:
        if name not in MAY_REFUSE:
            raise
        assert any(refused(name, victim, *alone(batch, labels, row)) for row in range(3))


@pytest.mark.parametrize("name", EXPLAINERS)
def test_the_same_settings_have_the_same_repr(name):
    explainer, again = (make_explainer(name, **FEW.get(name, {})) for _ in range(2))
    assert repr(explainer) == repr(again)


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
