"""Explainers on trained heads: completeness, memory, and localisation better than chance."""

from __future__ import annotations

from functools import cache

import pytest
import torch

from sigma_ser.core import registry
from sigma_ser.core.errors import ExplainerError
from sigma_ser.core.features import FeatureBatch, valid_frames
from sigma_ser.explainers.explanation import explanation, make_explainer
from sigma_ser.victims.checkpoint import make_head
from sigma_ser.victims.victim import Standardised, WrappedVictim, wrap

CHANNELS, CLASSES = 12, 3


def speech(count: int, seed: int) -> tuple[FeatureBatch, torch.Tensor]:
    """Class `c` raises channels `2 c` and `2 c + 1` in the middle third of the utterance."""
    rng = torch.Generator().manual_seed(seed)
    lengths = torch.randint(9, 16, (count,), generator=rng)
    labels = torch.randint(CLASSES, (count,), generator=rng)
    x = torch.randn(count, 15, CHANNELS, generator=rng)
    for row, (length, label) in enumerate(zip(lengths.tolist(), labels.tolist(), strict=True)):
        x[row, length // 3 : 2 * length // 3, 2 * label : 2 * label + 2] += 3.0
    return FeatureBatch(x, lengths), labels


@cache
def trained(head: str) -> WrappedVictim:
    """A head after a short training."""
    batch, labels = speech(256, 0)
    with torch.random.fork_rng():
        torch.manual_seed(1)
        module = Standardised(
            make_head(head, CHANNELS, CLASSES, {}), batch.x.mean((0, 1)), batch.x.std((0, 1))
        )
        optimizer = torch.optim.Adam(module.parameters(), lr=3e-3)
        for _ in range(25):
            rows = torch.randint(256, (64,))
            loss = torch.nn.functional.cross_entropy(
                module(batch.x[rows], batch.lengths[rows]), labels[rows]
            )
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return wrap(module.eval(), mean=module.mean, scale=module.scale)


@pytest.mark.slow
@pytest.mark.parametrize("head", registry.names("head"))
def test_integrated_gradients_are_complete_within_one_per_cent(head):
    """The gap is within 1 % of max(|f(x) - f(baseline)|, 1) at 64 steps."""
    victim = trained(head)
    batch, labels = speech(16, 5)
    explained = explanation("integrated-gradients", victim, batch, labels, steps=64)
    moved = (explained.saliency.double().sum((1, 2)) - explained.completeness).abs()
    assert bool((explained.completeness.abs() <= 0.01 * moved.clamp(min=1.0)).all())


# The variance of the gradient is large where the victim is non-linear, not at the planted elements:
# on the convolution the share of vargrad there is 0.73 times that of a random map.
LOCATING = sorted(set(registry.names("explainer")) - {"random", "vargrad"})


@pytest.mark.slow
@pytest.mark.parametrize("name", LOCATING)
def test_an_explainer_localises_the_planted_elements(name):
    """Control: more of the map lies on the planted elements than of a random map.

    On a head where the explainer is at home: a convolution, or attention.
    """
    victim = trained("attention" if name == "attention" else "cnn")
    batch, labels = speech(24, 6)
    planted = torch.zeros_like(batch.x, dtype=torch.bool)
    pairs = zip(batch.lengths.tolist(), labels.tolist(), strict=True)
    for row, (length, label) in enumerate(pairs):
        planted[row, length // 3 : 2 * length // 3, 2 * label : 2 * label + 2] = True
    explainer = make_explainer(name)
    explained = explanation(explainer, victim, batch, labels)
    a = explained.saliency.abs()
    if explainer.kind == "gradient":
        a = a * victim.scale
    share = (a * planted).sum((1, 2)) / a.sum((1, 2))
    valid = valid_frames(batch.lengths, batch.x.shape[1]).sum(1) * CHANNELS
    by_chance = planted.sum((1, 2)) / valid
    assert float((share / by_chance).nanmean()) > 1.15


@pytest.mark.slow
def test_the_map_does_not_depend_on_the_bound_on_memory():
    victim = trained("bilstm")
    batch, labels = speech(6, 7)
    whole = explanation("integrated-gradients", victim, batch, labels)
    for settings in ({"rows": 4}, {"rows": 1}, {"memory": 400_000}):
        explained = explanation("integrated-gradients", victim, batch, labels, **settings)
        torch.testing.assert_close(explained.saliency, whole.saliency, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(
    "name", ["gradient", "integrated-gradients", "smoothgrad", "gradient-shap"]
)
def test_no_chunk_exceeds_the_bound_on_memory(name):
    """Law: the tensors that autograd saves for a chunk stay below `memory`, and use much of it."""
    victim = trained("cnn")
    batch, labels = speech(16, 8)
    memory = 1_500_000
    held: dict[int, int] = {}
    chunks: list[int] = []

    class Watched:
        class_names = ()
        mean, scale = victim.mean, victim.scale

        def __call__(self, x, lengths):
            chunks.append(sum(held.values()))
            held.clear()
            return victim(x, lengths)

    def note(tensor):
        weight = tensor if tensor._base is None else tensor._base
        if not isinstance(weight, torch.nn.Parameter):
            held[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    explainer = make_explainer(name, memory=memory)
    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        explainer(Watched(), batch, labels)
    largest = max([*chunks, sum(held.values())])
    assert largest <= memory / 2  # the other half is for the gradients
    assert largest > memory / 8
    with pytest.raises(ExplainerError, match="more memory"):
        make_explainer(name, memory=1000)(Watched(), batch, labels)
