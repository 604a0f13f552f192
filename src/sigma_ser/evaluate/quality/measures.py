"""All quality measures of an explanation, independent of any attack."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from jaxtyping import Int
from torch import Tensor

from sigma_ser.core.contracts import Explainer, Explanation, Victim
from sigma_ser.core.features import FeatureBatch
from sigma_ser.evaluate.consistency.measures import as_explainer
from sigma_ser.explainers.explanation import explanation
from sigma_ser.explainers.ranking import ranking_scale, ranking_scores

from .curves import area, deletion, insertion
from .shape import complexity, gini
from .stability import max_sensitivity, randomisation


@dataclass(frozen=True, kw_only=True)
class QualitySettings:
    """Settings of the quality measures.

    Args:
        steps: points of the deletion and insertion curves after the first, at least 1.
        upto: share of the elements that the curves cover, in (0, 1].
        radius: radius of the noise of max-sensitivity, in units of scale, above 0.
        samples: number of noisy copies of max-sensitivity; 0 omits the measure.
        randomise: compute the randomisation check, which draws new weights for the victim.
        seed: random seed of the new weights.
    """

    steps: int = 10
    upto: float = 1.0
    radius: float = 0.05
    samples: int = 5
    randomise: bool = True
    seed: int = 0


def quality(
    explainer: str | Explainer,
    victim: Victim,
    batch: FeatureBatch,
    labels: Int[Tensor, "B"],
    *,
    known: Explanation | None = None,
    how: QualitySettings | None = None,
    seeds: Int[Tensor, "B"] | None = None,
    **settings: Any,
) -> dict[str, Tensor]:
    """Compute all quality measures of one explainer on one victim.

    Args:
        explainer: a name, with its `settings`, or an explainer.
        victim: the classifier that is explained.
        batch: features `(B, T, D)`.
        labels: the explained class `(B,)`.
        known: the explanation of `batch` for `labels`, where it is known already.
        how: settings of the measures; `None` uses the defaults.
        seeds: `(B,)`, for stochastic explainers; `None` derives them from the ids.
        **settings: settings of an explainer that is given by name.

    Returns:
        `(B,)` tensors by name: `deletion` (area, low for a faithful map), `insertion` (area, high
        for a faithful map), `gini`, `complexity`, `max_sensitivity`, `randomisation`,
        `completeness` (the gap as a share of `max(|f(x) - f(x0)|, 1)`, for explainers that define
        one), `forwards`, `backwards`.

    Raises:
        ExplainerError: if the explainer cannot explain the victim, or settings are given with an
            explainer object.
    """
    how = how or QualitySettings()
    explainer = as_explainer(explainer, settings)
    if known is None:
        known = explanation(explainer, victim, batch, labels, seeds=seeds)
    scale = ranking_scale(explainer.kind, victim, batch)
    scores = ranking_scores(known.saliency, batch.lengths, scale=scale)
    deleted = deletion(victim, batch, labels, scores, steps=how.steps, upto=how.upto)
    inserted = insertion(victim, batch, labels, scores, steps=how.steps, upto=how.upto)
    a = known.saliency.abs()
    measures = {
        "deletion": area(deleted),
        "insertion": area(inserted),
        "gini": gini(a, batch.lengths),
        "complexity": complexity(a, batch.lengths),
        "forwards": known.forwards,
        "backwards": known.backwards,
    }
    if how.samples:
        measures["max_sensitivity"] = max_sensitivity(
            explainer,
            victim,
            batch,
            labels,
            clean=known.saliency,
            radius=how.radius,
            samples=how.samples,
            seeds=seeds,
        )
    if how.randomise:
        measures["randomisation"] = randomisation(
            explainer, victim, batch, labels, clean=known.saliency, seed=how.seed
        )
    if known.completeness is not None:
        residual = known.completeness.to(batch.device)
        explained = known.saliency.double().sum((1, 2)) - residual
        measures["completeness"] = residual / explained.abs().clamp(min=1)
    return measures
