"""Reference values of consistency: random perturbations (floor), repeated explanations (ceiling).

A consistency value is read between the two. At the ceiling, the explanation did not change beyond
the variation of the explainer itself; at the floor, the attack changed it as much as a random
perturbation of the same size does.
"""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from sigma_ser.attacks.limits import joint_range, reachable
from sigma_ser.core.box import box_of
from sigma_ser.core.budget import Budget
from sigma_ser.core.contracts import Explainer, Victim
from sigma_ser.core.features import FeatureBatch
from sigma_ser.core.passes import per_channel
from sigma_ser.core.seeds import UtteranceNoise, derive_seed, utterance_seeds
from sigma_ser.core.topk import topk_support
from sigma_ser.explainers.explanation import explain

from .measures import as_explainer, compare, consistency


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
    """Measure consistency under a random perturbation of the same budget.

    Args:
        explainer: a name, with its `settings`, or an explainer.
        victim: the classifier that is explained.
        batch: the clean features `(B, T, D)`.
        labels: the class that is explained on both inputs `(B,)`.
        budget: number of units that `random_perturbation` moves, and their `epsilon`; its
            `k` and granularity define the top-k sets.
        mask: `(B, T, D)`, the elements that may be perturbed; `None` allows all.
        frame_seconds: time from one frame to the next; adds `centre_shift`.
        clean: the map of `batch` for `labels`, where it is known already.
        seeds: `(B,)`, for the perturbation and for stochastic explainers; `None` derives them from
            the ids.
        **settings: settings of an explainer that is given by name.

    Returns:
        `(B,)` float64 tensors named `<measure>_floor`; the measures are those of
        `consistency` for the given class.

    Raises:
        ExplainerError: if a map is not finite.
        BudgetError: if the budget does not fit an utterance.
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
    """Measure the consistency of two explanations of the same clean input under different seeds.

    It is 1 for deterministic explainers (0 for `centre_shift`). For stochastic ones it is the
    largest value to expect of any perturbation, since their maps vary by themselves.

    Args:
        explainer: a name, with its `settings`, or an explainer.
        victim: the classifier that is explained.
        batch: the clean features `(B, T, D)`.
        labels: the explained class of each utterance `(B,)`.
        budget: its `k` and granularity define the top-k sets.
        frame_seconds: time from one frame to the next; adds `centre_shift`.
        clean: the first map of `batch` for `labels`, explained with `seeds`, where it is known
            already.
        seeds: `(B,)`, those of the first explanation; `None` derives them from the ids. The seeds
            of the second explanation are derived from them.
        **settings: settings of an explainer that is given by name.

    Returns:
        `(B,)` float64 tensors named `<measure>_ceiling`; the measures are those of
        `consistency` for the given class.

    Raises:
        ExplainerError: if a map is not finite, or settings are given with an explainer object.
        BudgetError: if the budget does not fit an utterance.

    >>> import torch, sigma_ser as ss
    >>> class MeanPool(torch.nn.Linear):
    ...     def forward(self, x, lengths):
    ...         return super().forward(x.sum(1) / lengths[:, None])
    >>> victim = ss.wrap(MeanPool(8, 3).eval())
    >>> batch = ss.FeatureBatch(torch.randn(2, 5, 8), torch.tensor([5, 5]))
    >>> ceiling = consistency_ceiling(
    ...     "input-x-gradient", victim, batch, torch.tensor([0, 2]), ss.Budget(sparsity=0.1)
    ... )
    >>> ceiling["topk_intersection_ceiling"].tolist()
    [1.0, 1.0]
    """
    explainer = as_explainer(explainer, settings)
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
    """Move `k` random elements of each utterance by `+-epsilon * scale`.

    Args:
        victim: its `scale` is the unit of `epsilon`.
        batch: the clean features `(B, T, D)`.
        budget: number of units to move, and their `epsilon`.
        mask: `(B, T, D)`; only units that lie entirely inside may move. `None` allows all.
        seeds: `(B,)`; `None` derives them from the ids.

    Returns:
        The perturbed features `(B, T, D)`.

    Raises:
        BudgetError: if the budget does not fit an utterance or its mask.
    """
    if seeds is None:
        seeds = utterance_seeds(batch.ids, "random perturbation")
    noise = UtteranceNoise(seeds, batch.lengths)
    shape = batch.x.shape
    signs = noise.signs(batch.x)
    # The draw is per element and is aggregated per unit, so each granularity has its own order.
    draw = noise.uniform(batch.x)
    allowed = budget.unit_allowed(mask, batch.lengths, shape)
    scores = budget.unit_scores(draw, batch.lengths)
    chosen = topk_support(scores, budget.units(batch.lengths, shape[2]), allowed)
    support = budget.expand(chosen, batch.lengths, shape)
    scale = per_channel(victim.scale, batch.x)
    box = joint_range(None, box_of(victim), scale)
    low, high = reachable(batch.x, budget.bound(scale.double()), box)
    return torch.where(support, torch.where(signs > 0, high, low), batch.x)
