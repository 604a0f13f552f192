"""Can a map be trusted: does it hold under small noise, and does it depend on the victim at all."""

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
    """`max |A(x + u) - A(x)| / |A(x)|` over small noise (Yeh et al. 2019, definition 2.2).

    Args:
        explainer: explains the noisy copies with the same seeds as the features.
        victim: the classifier.
        batch: features `(B, T, D)`.
        labels: the explained class `(B,)`.
        clean: the map of `batch`, where it is known already.
        radius: the noise is uniform in `+-radius * scale`.
        samples: noisy copies, at least 1.
        seeds: of the explainer and the noise; `None` derives them from the ids.

    Returns:
        `(B,)`, at least 0; NaN where the map is all zero.
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
    """Spearman between `|A|` of the victim and of the same head with fresh weights.

    The sanity check of Adebayo et al. 2018, section 3: a map that hardly changes does not explain
    the victim.

    Args:
        explainer: explains both.
        victim: a victim whose torch module can be reached.
        batch: features `(B, T, D)`.
        labels: the explained class `(B,)`.
        clean: the map of the victim, where it is known already.
        seed: of the fresh weights.

    Returns:
        `(B,)` in [-1, 1], near 0 for a map that passes; NaN where a map is constant.

    Raises:
        ExplainerError: if the module cannot be reached.
    """
    if clean is None:
        clean = explain(explainer, victim, batch, labels)
    fresh = explain(explainer, reinitialised(victim, seed), batch, labels)
    return spearman(clean.abs(), fresh.abs(), batch.lengths)


def reinitialised(victim: Victim, seed: int = 0) -> WrappedVictim:
    """A copy of a victim with fresh weights in every layer; the victim stays as it is.

    Raises:
        ExplainerError: if its torch module cannot be reached.
    """
    module = getattr(victim, "module", victim)
    if not isinstance(module, nn.Module):
        raise ExplainerError(
            f"{type(victim).__name__} hides its torch module, whose weights must be drawn again; "
            "wrap the module with sigma_ser.wrap"
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
            # A layer of somebody's own may not know how to begin again: same spread, new values.
            if torch.equal(parameter, before[name]) and parameter.numel() > 1:
                parameter.copy_(torch.randn_like(parameter) * parameter.std() + parameter.mean())
    return wrap(fresh, victim.class_names or None, victim.mean, victim.scale)
