"""A logistic regression on the features of saliency maps: clean or attacked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from sigma_ser.core.errors import ExplainerError
from sigma_ser.core.features import FeatureBatch

from .features import FEATURES, MapFeatures, map_features


@dataclass(frozen=True, eq=False)
class Alarm:
    """A detector of attacks; a larger score is more likely an attack.

    Args:
        features: computes the features of an input.
        weight: of each feature, `(5,)`, in the order of `FEATURES`; 0 where it is not used.
        bias: of the score.
    """

    features: MapFeatures
    weight: Float[Tensor, "5"]
    bias: float

    def __call__(self, batch: FeatureBatch) -> Float[Tensor, "B"]:
        """Log-odds that each utterance is attacked `(B,)`, from its features alone."""
        return self.of_features(self.features(batch))

    def of_features(self, values: Float[Tensor, "B 5"]) -> Float[Tensor, "B"]:
        """Log-odds `(B,)` of computed features."""
        return values @ self.weight.to(values) + self.bias

    def of_map(
        self,
        magnitudes: Float[Tensor, "B T D"],
        lengths: Int[Tensor, "B"],
        logits: Float[Tensor, "B C"],
    ) -> Float[Tensor, "B"]:
        """Log-odds `(B,)` of a map `|A(x)|` of the predicted class, differentiable."""
        source = self.features
        return self.of_features(
            map_features(magnitudes, lengths, logits, source.class_maps, source.top)
        )


def fit_alarm(
    features: MapFeatures,
    clean: Float[Tensor, "N 5"],
    attacked: Float[Tensor, "M 5"],
    *,
    used: Sequence[str] = FEATURES,
) -> Alarm:
    """Fit the alarm by logistic regression on standardised features, with equal class weights.

    Args:
        features: computes the features of the inputs that the alarm will be applied to.
        clean: features of clean inputs `(N, 5)`.
        attacked: features of attacked inputs `(M, 5)`.
        used: of `FEATURES`, those that the alarm may use.

    Raises:
        ExplainerError: if a feature is unknown, or there is no clean or no attacked input.
    """
    from sklearn.linear_model import LogisticRegression

    unknown = sorted(set(used) - set(FEATURES))
    if unknown or not used:
        raise ExplainerError(
            f"the features of an alarm are {', '.join(FEATURES)}, got {', '.join(unknown) or '()'}"
        )
    if not len(clean) or not len(attacked):
        raise ExplainerError(
            "an alarm is fitted on clean and on attacked inputs, and one of both is empty"
        )
    values = torch.cat([clean, attacked]).double().cpu().numpy()
    mean, deviation = values.mean(0), values.std(0)
    deviation = np.where(deviation > 0, deviation, 1.0)
    chosen = np.array([name in used for name in FEATURES])
    kind = np.repeat([0, 1], [len(clean), len(attacked)])
    model = LogisticRegression(class_weight="balanced", max_iter=1000)
    model.fit(((values - mean) / deviation)[:, chosen], kind)
    weight = np.zeros(len(FEATURES))
    weight[chosen] = model.coef_[0] / deviation[chosen]
    bias = float(model.intercept_[0] - weight @ mean)
    return Alarm(features, torch.from_numpy(weight), bias)
