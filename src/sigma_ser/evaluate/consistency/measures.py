"""Consistency of explanations under an attack: all measures, for both choices of the class.

Measures compare `a = |A(x)|` and `a' = |A(x_adv)|` over valid elements. A measure without suffix
explains the given class on both inputs. With the suffix `_own` each input is explained for its own
prediction, which changes by definition when the attack succeeds.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from jaxtyping import Bool, Float, Int
from torch import Tensor

from sigma_ser.core.budget import Budget
from sigma_ser.core.contracts import Explainer, Victim
from sigma_ser.core.errors import ExplainerError, ShapeError
from sigma_ser.core.features import FeatureBatch
from sigma_ser.explainers.classes import predicted
from sigma_ser.explainers.explanation import explain, make_explainer
from sigma_ser.explainers.ranking import ranking_scale
from sigma_ser.masks.topk import topk_mask

from .rank import kendall, spearman
from .sets import iou, topk_intersection
from .shape import centre_shift, cosine, mask_mass, ssim_time


def consistency(  # noqa: PLR0917 - public signature
    explainer: str | Explainer,
    victim: Victim,
    batch: FeatureBatch,
    x_adv: Float[Tensor, "B T D"],
    labels: Int[Tensor, "B"],
    budget: Budget,
    *,
    mask: Bool[Tensor, "B T D"] | None = None,
    frame_seconds: float | None = None,
    clean: Float[Tensor, "B T D"] | None = None,
    own: bool = True,
    seeds: Int[Tensor, "B"] | None = None,
    **settings: Any,
) -> dict[str, Tensor]:
    """Compare the explanations of the clean and of the attacked features.

    Sources: Ghorbani, Abid, Zou 2019 (`topk_intersection`, `spearman`, `centre_shift`); Wang et
    al. 2004 (`ssim_time`).

    Args:
        explainer: a name, with its `settings`, or an explainer.
        victim: the classifier that is explained.
        batch: the clean features `(B, T, D)`.
        x_adv: the features after the attack `(B, T, D)`.
        labels: the explained class of each utterance `(B,)`.
        budget: its `k` and granularity define the top-k sets.
        mask: `(B, T, D)`, the elements that the attack was allowed to change; adds `mask_mass`,
            the share of the absolute saliency after the attack that lies in the mask, and
            `mask_mass_clean`, the same before the attack.
        frame_seconds: time from one frame to the next; adds `centre_shift`.
        clean: the map of `batch` for `labels`, if it has already been computed.
        own: also compute each measure with the suffix `_own`, which explains the victim's
            prediction on each input instead of the label; this requires further explanations.
        seeds: `(B,)`, for stochastic explainers; both inputs are explained with the same seeds.
        **settings: settings of an explainer that is given by name.

    Returns:
        `(B,)` float64 tensors by name, on the device of the batch: `topk_intersection`, `iou`,
        `cosine` in [0, 1]; `spearman`, `kendall`, `ssim_time` in [-1, 1]; `centre_shift` in
        seconds; each also with `_own`; and `mask_mass`, `mask_mass_clean` in [0, 1]. NaN where a
        measure is not defined (a constant map has no ranks).

    Raises:
        ShapeError: if the shapes do not fit.
        ExplainerError: if a map is not finite, or settings are given with an explainer object.
        BudgetError: if the budget does not fit an utterance.
    """
    if x_adv.shape != batch.x.shape:
        raise ShapeError(
            f"x_adv must have the shape of the batch, {tuple(batch.x.shape)}, "
            f"got {tuple(x_adv.shape)}"
        )
    explainer = as_explainer(explainer, settings)
    # The ids are those of the clean input, so noise is the same on both.
    attacked = FeatureBatch(x_adv.detach(), batch.lengths, batch.ids)
    if not isinstance(labels, Tensor):
        raise ShapeError(
            f"labels must be class indices (B,) in a torch tensor, got {type(labels).__name__}"
        )
    labels = labels.to(batch.device)
    if clean is None:
        clean = explain(explainer, victim, batch, labels, seeds=seeds)
    after = explain(explainer, victim, attacked, labels, seeds=seeds)
    ranking = ranking_scale(explainer.kind, victim, batch)
    scores = compare(
        clean, after, batch.lengths, budget, scale=ranking, frame_seconds=frame_seconds
    )
    if mask is not None:
        scores["mask_mass"] = mask_mass(after.abs(), mask, batch.lengths)
        scores["mask_mass_clean"] = mask_mass(clean.abs(), mask, batch.lengths)
    if own:
        before_own = _own(explainer, victim, batch, labels, known=clean, seeds=seeds)
        after_own = _own(explainer, victim, attacked, labels, known=after, seeds=seeds)
        of_own = compare(
            before_own, after_own, batch.lengths, budget, scale=ranking, frame_seconds=frame_seconds
        )
        scores |= {f"{name}_own": values for name, values in of_own.items()}
    return scores


def as_explainer(explainer: str | Explainer, settings: Mapping[str, Any]) -> Explainer:
    """Return an explainer, created with its settings where it is given by name.

    Raises:
        ExplainerError: if settings are given with an explainer object.
    """
    if isinstance(explainer, str):
        return make_explainer(explainer, **settings)
    if settings:
        raise ExplainerError(
            f"the settings {', '.join(settings)} were given with an explainer object, which has "
            "its own; give them to make_explainer, or give the explainer by name"
        )
    return explainer


def compare(
    before: Float[Tensor, "B T D"],
    after: Float[Tensor, "B T D"],
    lengths: Int[Tensor, "B"],
    budget: Budget,
    *,
    scale: Float[Tensor, "D"] | None = None,
    frame_seconds: float | None = None,
) -> dict[str, Tensor]:
    """Compute all measures between two maps of the same utterances.

    Args:
        before: one map `(B, T, D)`, signed or not.
        after: the other map `(B, T, D)`.
        lengths: valid frames `(B,)`.
        budget: its `k` and granularity define the top-k sets.
        scale: `(D,)`, for maps that are gradients, which rank by `|A| * scale`; the other measures
            compare `|A|` itself. `None` ranks by `|A|`.
        frame_seconds: time from one frame to the next; adds `centre_shift`.

    Returns:
        `(B,)` float64 tensors by the name of the measure.

    Raises:
        ExplainerError: if a map is not finite.
        BudgetError: if the budget does not fit an utterance.
    """
    sets = [topk_mask(saliency, lengths, budget, scale=scale) for saliency in (before, after)]
    a, b = before.abs(), after.abs()
    scores = {
        "topk_intersection": topk_intersection(*sets),
        "iou": iou(*sets),
        "spearman": spearman(a, b, lengths),
        "kendall": kendall(a, b, lengths),
        "cosine": cosine(a, b, lengths),
        "ssim_time": ssim_time(a, b, lengths),
    }
    if frame_seconds is not None:
        scores["centre_shift"] = centre_shift(a, b, lengths, frame_seconds)
    return scores


def _own(
    explainer: Explainer,
    victim: Victim,
    batch: FeatureBatch,
    labels: Int[Tensor, "B"],
    *,
    known: Float[Tensor, "B T D"],
    seeds: Int[Tensor, "B"] | None,
) -> Float[Tensor, "B T D"]:
    """Maps for the predicted class of each utterance; `known` are the maps for `labels`."""
    prediction = predicted(victim, batch)
    rows = (prediction != labels).nonzero()[:, 0]
    if not len(rows):
        return known
    part = batch.select(rows)
    own = known.clone()
    own[rows] = 0.0
    own[rows, : part.x.shape[1]] = explain(
        explainer,
        victim,
        part,
        prediction[rows],
        seeds=None if seeds is None else seeds[rows.to(seeds.device)],
    )
    return own
