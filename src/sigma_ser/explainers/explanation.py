"""Explainers by name: `explain` returns the map, `explanation` also its cost."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from sigma_ser.core import registry
from sigma_ser.core.contracts import Explainer, Explanation, Victim
from sigma_ser.core.errors import ExplainerError
from sigma_ser.core.features import FeatureBatch


def explain(
    explainer: str | Explainer,
    victim: Victim,
    batch: FeatureBatch,
    labels: Int[Tensor, "B"],
    *,
    seeds: Int[Tensor, "B"] | None = None,
    **settings: Any,
) -> Float[Tensor, "B T D"]:
    """Attribute the score of the class given in `labels` to the elements of the features.

    Args:
        explainer: a name of `registry.names("explainer")`, or an explainer object.
        victim: the classifier that is explained.
        batch: features `(B, T, D)`.
        labels: the explained class of each utterance, indices `(B,)`; see
            `sigma_ser.explainers.classes.predicted` for the predicted one.
        seeds: `(B,)` seeds of stochastic explainers; `None` derives them from the ids.
        **settings: hyperparameters of an explainer that is given by name.

    Returns:
        Signed saliency, float32 `(B, T, D)`, detached, in feature units, zero on padding.

    Raises:
        UnknownNameError: if no explainer has this name.
        ExplainerError: if a setting is wrong, the explainer cannot explain this victim, or the map
            is not finite.

    >>> import torch, sigma_ser as ss
    >>> class MeanPool(torch.nn.Linear):
    ...     def forward(self, x, lengths):
    ...         return super().forward(x.sum(1) / lengths[:, None])
    >>> victim = ss.wrap(MeanPool(8, 3).eval())
    >>> batch = ss.FeatureBatch(torch.zeros(2, 5, 8), torch.tensor([5, 5]))
    >>> ss.explain("gradient", victim, batch, torch.tensor([0, 2])).shape
    torch.Size([2, 5, 8])
    """
    return explanation(explainer, victim, batch, labels, seeds=seeds, **settings).saliency


def explanation(
    explainer: str | Explainer,
    victim: Victim,
    batch: FeatureBatch,
    labels: Int[Tensor, "B"],
    *,
    seeds: Int[Tensor, "B"] | None = None,
    **settings: Any,
) -> Explanation:
    """As `explain`, with the number of passes and the completeness of the map."""
    explainer = as_explainer(explainer, **settings)
    found = explainer(victim, batch, labels, seeds=seeds)
    if found.saliency.shape != batch.x.shape or not bool(torch.isfinite(found.saliency).all()):
        raise ExplainerError(
            f"{explainer!r} must return a finite map {tuple(batch.x.shape)}, "
            f"got {tuple(found.saliency.shape)} with NaN or infinity, or of the wrong shape"
        )
    return found


def as_explainer(explainer: str | Explainer, **settings: Any) -> Explainer:
    """The explainer with a name, or the explainer itself.

    Raises:
        UnknownNameError: if no explainer has this name.
        ExplainerError: if it is no explainer, or settings are given beside an explainer.
    """
    if isinstance(explainer, str):
        return make_explainer(explainer, **settings)
    if settings:
        raise ExplainerError(
            f"settings ({', '.join(settings)}) belong to an explainer that is given by name; "
            "pass those of an explainer object to make_explainer"
        )
    if not isinstance(explainer, Explainer):
        raise ExplainerError(
            f"explainer must be a name or the result of make_explainer, got {explainer!r}"
        )
    return explainer


def make_explainer(name: str, **settings: Any) -> Explainer:
    """Build an explainer by name.

    Args:
        name: one of `registry.names("explainer")`.
        settings: its hyperparameters; a missing one has its default.

    Raises:
        UnknownNameError: if no explainer has this name; the message lists near matches.
        ExplainerError: if a setting is unknown or out of its range.

    >>> make_explainer("integrated-gradients", steps=8)
    IntegratedGradients(output='logit', rows=64, memory=None, steps=8)
    """
    explainer: Explainer = registry.make("explainer", name, settings)
    return explainer
