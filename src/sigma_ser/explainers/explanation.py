"""Explainers by name: `explain` gives the map, `explanation` also what it cost."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from sigma_ser.core import registry
from sigma_ser.core.contracts import Explainer, Explanation, Victim
from sigma_ser.core.errors import ExplainerError
from sigma_ser.core.features import FeatureBatch
from sigma_ser.core.settings import check_settings


def explain(
    explainer: str | Explainer,
    victim: Victim,
    batch: FeatureBatch,
    labels: Int[Tensor, "B"],
    *,
    seeds: Int[Tensor, "B"] | None = None,
    **settings: Any,
) -> Float[Tensor, "B T D"]:
    """How much each element of the features speaks for class `labels`, as a map.

    Args:
        explainer: a name of `registry.names("explainer")`, or an explainer.
        victim: the classifier that is explained.
        batch: features `(B, T, D)`.
        labels: the explained class of each utterance, indices `(B,)`; see
            :func:`sigma_ser.explainers.classes.predicted` for the predicted one.
        seeds: `(B,)` seeds of stochastic explainers; `None` derives them from the ids.
        **settings: of an explainer that is given by name.

    Returns:
        Signed saliency, float32 `(B, T, D)`, detached, in feature units, zero on padding.

    Raises:
        UnknownNameError: if no explainer has this name.
        ExplainerError: if a setting or the victim does not suit the explainer, or the map is not
            finite.

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
    """As :func:`explain`, with the passes it took and its completeness."""
    if isinstance(explainer, str):
        explainer = make_explainer(explainer, **settings)
    elif settings:
        raise ExplainerError(
            f"settings ({', '.join(settings)}) go with the name of an explainer; "
            "this one is made already, so give them to make_explainer"
        )
    told = explainer(victim, batch, labels, seeds=seeds)
    if told.saliency.shape != batch.x.shape or not bool(torch.isfinite(told.saliency).all()):
        raise ExplainerError(
            f"{explainer!r} must give a finite map {tuple(batch.x.shape)}, "
            f"got {tuple(told.saliency.shape)} with NaN or infinity, or of the wrong shape"
        )
    return told


def make_explainer(name: str, **settings: Any) -> Explainer:
    """An explainer by name.

    Raises:
        UnknownNameError: if there is none; the text lists near matches.
        ExplainerError: if it has no such setting, or a setting is out of its range.

    >>> make_explainer("integrated-gradients", steps=8)
    IntegratedGradients(output='logit', rows=64, memory=None, steps=8)
    """
    factory = registry.get("explainer", name)
    check_settings(f"the explainer {name!r}", factory, settings, ExplainerError)
    explainer: Explainer = factory(**settings)
    return explainer
