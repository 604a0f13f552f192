"""Stability of a map under small noise, and its dependence on the weights of the victim."""

from __future__ import annotations

import copy

import torch
from jaxtyping import Float, Float64, Int
from torch import Tensor, nn

from sigma_ser.core.contracts import Explainer, Victim
from sigma_ser.core.errors import ExplainerError
from sigma_ser.core.features import FeatureBatch
from sigma_ser.core.passes import per_channel
from sigma_ser.core.seeds import UtteranceNoise, utterance_seeds
from sigma_ser.evaluate.consistency.rank import spearman
from sigma_ser.explainers.explanation import explain
from sigma_ser.victims.victim import WrappedVictim, wrap


def max_sensitivity(
    explainer: Explainer,
    victim: Victim,
    batch: FeatureBatch,
    labels: Int[Tensor, "B"],
    *,
    clean: Float[Tensor, "B T D"] | None = None,
    radius: float = 0.05,
    samples: int = 5,
    seeds: Int[Tensor, "B"] | None = None,
) -> Float64[Tensor, "B"]:
    """Max-sensitivity `max |A(x + u) - A(x)| / |A(x)|` (Yeh et al. 2019, definition 2.2).

    The maximum is over `samples` draws of the noise `u`; norms are Euclidean.

    Args:
        explainer: the explainer; noisy copies are explained with the seeds of the clean input.
        victim: the classifier.
        batch: features `(B, T, D)`.
        labels: the explained class `(B,)`.
        clean: the map of `batch`, where it is known already.
        radius: the noise is uniform in `+-radius * scale`; above 0.
        samples: number of noisy copies, at least 1.
        seeds: `(B,)`, for the explainer and the noise; `None` derives them from the ids.

    Returns:
        `(B,)`, at least 0; NaN where the map is all zero.

    Raises:
        ExplainerError: if `samples` or `radius` is out of its range.
    """
    if samples < 1 or not radius > 0:
        raise ExplainerError("max-sensitivity needs at least 1 sample and a radius above 0")
    if clean is None:
        clean = explain(explainer, victim, batch, labels, seeds=seeds)
    drawn = utterance_seeds(batch.ids, "max-sensitivity") if seeds is None else seeds
    noise = UtteranceNoise(drawn, batch.lengths)
    size = radius * per_channel(victim.scale, batch.x)
    norm = clean.double().flatten(1).norm(dim=1)
    worst = torch.zeros_like(norm)
    for _ in range(samples):
        near = FeatureBatch(batch.x + size * noise.uniform(batch.x), batch.lengths, batch.ids)
        saliency = explain(explainer, victim, near, labels, seeds=seeds)
        worst = torch.maximum(worst, (saliency - clean).double().flatten(1).norm(dim=1))
    ratio: Tensor = worst / norm
    return ratio


def randomisation(
    explainer: Explainer,
    victim: Victim,
    batch: FeatureBatch,
    labels: Int[Tensor, "B"],
    *,
    clean: Float[Tensor, "B T D"] | None = None,
    seed: int = 0,
) -> Float64[Tensor, "B"]:
    """Spearman's correlation of `|A|` between the victim and a copy with new random weights.

    The model randomisation test of Adebayo et al. 2018, section 3: a map that hardly changes does
    not depend on what the victim has learnt.

    Args:
        explainer: the explainer of both victims.
        victim: a torch module, or a victim with one as its attribute `module`.
        batch: features `(B, T, D)`.
        labels: the explained class `(B,)`.
        clean: the map of the victim, where it is known already.
        seed: random seed of the new weights.

    Returns:
        `(B,)` in [-1, 1], near 0 for a map that passes the test; NaN where a map is constant.

    Raises:
        ExplainerError: if the victim has no accessible torch module.
    """
    if clean is None:
        clean = explain(explainer, victim, batch, labels)
    fresh = explain(explainer, reinitialised(victim, seed), batch, labels)
    return spearman(clean.abs(), fresh.abs(), batch.lengths)


def reinitialised(victim: Victim, seed: int = 0) -> WrappedVictim:
    """Return a copy of a victim with new random weights in every layer.

    Args:
        victim: a torch module, or a victim with one as its attribute `module`; not changed.
        seed: random seed of the new weights.

    Raises:
        ExplainerError: if the victim has no accessible torch module.
    """
    module = getattr(victim, "module", victim)
    if not isinstance(module, nn.Module):
        raise ExplainerError(
            f"{type(victim).__name__} has no torch module as its attribute `module`, so its "
            "weights cannot be randomised; wrap the module with sigma_ser.wrap"
        )
    fresh = copy.deepcopy(module)
    before = {name: parameter.clone() for name, parameter in fresh.named_parameters()}
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(seed)
        for layer in fresh.modules():
            reset = getattr(layer, "reset_parameters", getattr(layer, "_reset_parameters", None))
            if callable(reset):
                reset()
        for name, parameter in fresh.named_parameters():
            # Layers without a reset method get values of the same mean and standard deviation.
            if torch.equal(parameter, before[name]) and parameter.numel() > 1:
                parameter.copy_(torch.randn_like(parameter) * parameter.std() + parameter.mean())
    return wrap(fresh, victim.class_names or None, victim.mean, victim.scale)
