"""What the measures show when nothing was aimed: a random perturbation of the same size."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from sigma_ser.core.budget import Budget
from sigma_ser.core.contracts import Explainer, Victim
from sigma_ser.core.features import FeatureBatch
from sigma_ser.core.passes import per_channel
from sigma_ser.core.seeds import UtteranceNoise, derive_seed, utterance_seeds
from sigma_ser.core.topk import topk_support
from sigma_ser.explainers.explanation import explain, make_explainer

from .measures import compare, consistency


def consistency_floor(
    explainer: str | Explainer,
    victim: Victim,
    batch: FeatureBatch,
    labels: Int[Tensor, "B"],
    budget: Budget,
    *,
    mask: Bool[Tensor, "B T D"] | None = None,
    frame_seconds: float | None = None,
    clean: Float[Tensor, "B T D"] | None = None,
    seeds: Int[Tensor, "B"] | None = None,
    **settings: Any,
) -> dict[str, Tensor]:
    """The measures of :func:`consistency` for a random perturbation, named `<measure>_floor`.

    Arguments as :func:`consistency`; the perturbation is that of :func:`random_perturbation`, with
    `seeds` derived from the ids where none are given. `labels` are explained on both inputs.
    """
    x = random_perturbation(victim, batch, budget, mask=mask, seeds=seeds)
    scores = consistency(
        explainer,
        victim,
        batch,
        x,
        labels,
        budget,
        frame_seconds=frame_seconds,
        clean=clean,
        own=False,
        seeds=seeds,
        **settings,
    )
    return {f"{name}_floor": values for name, values in scores.items()}


def consistency_ceiling(
    explainer: str | Explainer,
    victim: Victim,
    batch: FeatureBatch,
    labels: Int[Tensor, "B"],
    budget: Budget,
    *,
    frame_seconds: float | None = None,
    clean: Float[Tensor, "B T D"] | None = None,
    seeds: Int[Tensor, "B"] | None = None,
    **settings: Any,
) -> dict[str, Tensor]:
    """The measures of the same clean input explained twice, named `<measure>_ceiling`.

    The second time with other seeds: 1 for explainers that draw nothing, and for the others the
    most that can be hoped for. Arguments as :func:`consistency`.
    """
    if isinstance(explainer, str):
        explainer = make_explainer(explainer, **settings)
    if clean is None:
        clean = explain(explainer, victim, batch, labels, seeds=seeds)
    if seeds is None:
        again = utterance_seeds(batch.ids, "explain again")
    else:
        again = torch.tensor([derive_seed("explain again", seed) for seed in seeds.tolist()])
    second = explain(explainer, victim, batch, labels, seeds=again)
    scale = per_channel(victim.scale, batch.x) if explainer.kind == "gradient" else None
    scores = compare(clean, second, batch.lengths, budget, scale=scale, frame_seconds=frame_seconds)
    return {f"{name}_ceiling": values for name, values in scores.items()}


def random_perturbation(
    victim: Victim,
    batch: FeatureBatch,
    budget: Budget,
    *,
    mask: Bool[Tensor, "B T D"] | None = None,
    seeds: Int[Tensor, "B"] | None = None,
) -> Float[Tensor, "B T D"]:
    """The features with `k` random elements moved by `epsilon * scale` up or down.

    Args:
        victim: gives the scale of the channels.
        batch: the clean features.
        budget: how many units move, and how far.
        mask: where they lie; only units wholly inside qualify. `None` allows all.
        seeds: `(B,)`; `None` derives them from the ids.
    """
    if seeds is None:
        seeds = utterance_seeds(batch.ids, "random perturbation")
    noise = UtteranceNoise(seeds, batch.lengths)
    shape = batch.x.shape
    signs = noise.signs(batch.x)
    # Drawn per element and read per unit, so that every granularity has its own random order.
    draw = noise.uniform(batch.x)
    allowed = budget.unit_allowed(mask, batch.lengths, shape)
    scores = budget.unit_scores(draw, batch.lengths)
    chosen = topk_support(scores, budget.units(batch.lengths, shape[2]), allowed)
    support = budget.expand(chosen, batch.lengths, shape)
    step = signs * budget.bound(per_channel(victim.scale, batch.x))
    return batch.x + torch.where(support, step, torch.zeros_like(step))
