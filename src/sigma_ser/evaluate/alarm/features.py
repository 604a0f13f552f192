"""Features of one saliency map that may differ between clean and attacked inputs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from sigma_ser.core.contracts import Explainer, Victim
from sigma_ser.core.errors import ExplainerError
from sigma_ser.core.features import FeatureBatch
from sigma_ser.explainers.classes import clean_logits
from sigma_ser.explainers.explanation import as_explainer, explain
from sigma_ser.explainers.relative_time import fold

# In the order of the columns of `map_features`.
FEATURES: tuple[str, ...] = ("top_mass", "gini", "time_entropy", "class_distance", "margin")
_BINS = 10


def map_features(
    magnitudes: Float[Tensor, "B T D"],
    lengths: Int[Tensor, "B"],
    logits: Float[Tensor, "B C"],
    class_maps: Float[Tensor, "C bins D"],
    top: float,
) -> Float[Tensor, "B 5"]:
    """Compute the features of maps; they are differentiable and do not depend on their scale.

    `top_mass` is the share of the map in its largest elements, `gini` its Gini index (Chalasani et
    al. 2020), `time_entropy` the entropy of its time profile divided by the logarithm of the number
    of frames, `class_distance` one minus the cosine to the mean map of the predicted class on a
    relative time axis, and `margin` the largest logit minus the second.

    Args:
        magnitudes: `|A(x)|` for the predicted class `(B, T, D)`, at least 0, zero on padding.
        lengths: valid frames `(B,)`.
        logits: of the victim `(B, C)`.
        class_maps: mean map of each class, `(C, bins, D)`.
        top: share of the elements whose mass is `top_mass`, in (0, 1].

    Returns:
        `(B, 5)`, in the order of `FEATURES`. The features of a map of zeros are 0, and its distance
        is 1.
    """
    count = lengths * magnitudes.shape[2]
    total = magnitudes.sum((1, 2))
    tiny = torch.finfo(magnitudes.dtype).tiny
    share = magnitudes / total.clamp(min=tiny)[:, None, None]
    falling = share.flatten(1).sort(dim=1, descending=True).values
    place = torch.arange(falling.shape[1], device=falling.device)[None, :]
    largest = (top * count).round().clamp(min=1)[:, None]
    # Padding is zero and comes last, so it has no part in either sum.
    top_mass = torch.where(place < largest, falling, 0.0).sum(1)
    weight = 1 - (2 * place + 1) / count[:, None]
    gini = (falling * weight).sum(1)
    profile = share.sum(2)
    # The derivative of x log x is infinite at 0, where padding lies.
    entropy = -torch.xlogy(profile, profile.clamp(min=tiny)).sum(1)
    entropy = entropy / lengths.clamp(min=2).log()
    bins = class_maps.shape[1]
    own = torch.arange(len(lengths), device=lengths.device)
    folded = torch.stack(list(fold(magnitudes, lengths, bins=bins, groups=own).values()))
    expected = class_maps.to(folded)[logits.argmax(1)]
    distance = 1 - torch.cosine_similarity(folded.flatten(1), expected.flatten(1))
    leaders = logits.topk(2, dim=1).values
    margin = leaders[:, 0] - leaders[:, 1]
    return torch.stack([top_mass, gini, entropy, distance, margin], dim=1)


@dataclass(frozen=True, eq=False)
class MapFeatures:
    """The features of the maps of one explainer on one victim.

    Args:
        explainer: computes the maps.
        victim: the classifier.
        class_maps: mean map of each class, `(C, bins, D)`; `of` estimates them.
        top: share of the elements whose mass is the feature `top_mass`, in (0, 1].
    """

    explainer: Explainer
    victim: Victim
    class_maps: Float[Tensor, "C bins D"]
    top: float = 0.01

    @classmethod
    def of(
        cls,
        explainer: str | Explainer,
        victim: Victim,
        batch: FeatureBatch,
        labels: Int[Tensor, "B"],
        *,
        top: float = 0.01,
    ) -> MapFeatures:
        """Estimate the mean map of each class on utterances of the training part.

        Args:
            explainer: a name, or an explainer.
            victim: the classifier.
            batch: features of the training part `(B, T, D)`.
            labels: their classes `(B,)`; every class of the victim must occur.
            top: share of the elements whose mass is the feature `top_mass`, in (0, 1].

        Raises:
            ExplainerError: if a class does not occur, or `top` is out of its range.
        """
        return cls.of_batches(explainer, victim, [(batch, labels)], top=top)

    @classmethod
    def of_batches(
        cls,
        explainer: str | Explainer,
        victim: Victim,
        batches: Iterable[tuple[FeatureBatch, Int[Tensor, "_"]]],
        *,
        top: float = 0.01,
    ) -> MapFeatures:
        """As `of`, of several batches, each with its labels."""
        if not 0 < top <= 1:
            raise ExplainerError(f"top must be a share of the elements in (0, 1], got {top}")
        explainer = as_explainer(explainer)
        sums: dict[int, Tensor] = {}
        counts: Counter[int] = Counter()
        classes = 0
        for batch, labels in batches:
            classes = clean_logits(victim, batch.select(torch.tensor([0]))).shape[1]
            maps = explain(explainer, victim, batch, labels).abs()
            here = Counter(labels.tolist())
            for one, mean in fold(maps, batch.lengths, bins=_BINS, groups=labels).items():
                sums[one] = sums.get(one, 0.0) + mean * here[one]
            counts += here
        lacking = sorted(set(range(max(classes, 1))) - set(counts))
        if lacking:
            names = victim.class_names or tuple(str(one) for one in range(classes)) or ("any",)
            raise ExplainerError(
                f"the mean maps need an utterance of every class, and {names[lacking[0]]!r} does "
                "not occur; add utterances of the training part"
            )
        means = torch.stack([sums[one] / counts[one] for one in range(classes)])
        return cls(explainer, victim, means, top)

    def __call__(self, batch: FeatureBatch) -> Float[Tensor, "B 5"]:
        """Explain the predicted class of each utterance and compute the features of its map.

        Args:
            batch: features `(B, T, D)`, clean or attacked. No label is used.

        Returns:
            `(B, 5)`, in the order of `FEATURES`.
        """
        logits = clean_logits(self.victim, batch)
        maps = explain(self.explainer, self.victim, batch, logits.argmax(1)).abs()
        return map_features(maps, batch.lengths, logits, self.class_maps, self.top)
