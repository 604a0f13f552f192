"""Affine victims: the exact bound, proven for known heads and tested for others."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from sigma_ser.core.budget import Budget
from sigma_ser.core.contracts import Victim
from sigma_ser.core.features import FeatureBatch
from sigma_ser.core.registry import register
from sigma_ser.victims.heads import Linear, Superb

from .allowed import Allowed, allowed_changes, checked_task
from .certificate import Certificate
from .rounding import rounding_allowance
from .structure import KnownHead, known_head, weight_and_bias

_HEADS = (Linear, Superb)


def lower_bounds(
    clean: Float[Tensor, "C"], slopes: Float[Tensor, "C T D"], allowed: Allowed
) -> Float[Tensor, "C"]:
    """The smallest `z_y - z_j` of affine logits under the allowed changes, for each class `j`.

    With `A_j = d(z_y - z_j)/dx` this is `(z_y - z_j)(x)` minus the sum of the largest
    `radius * |A_j|`, in whole units. It is exact, because a corner attains it; `inf` for the label.
    """
    label = allowed.label
    damage = allowed.largest((slopes[label] - slopes).abs() * allowed.radius)
    bounds = clean[label] - clean - damage
    return bounds.index_fill(0, torch.tensor([label]), torch.inf)


@dataclasses.dataclass(frozen=True, kw_only=True)
class _AffineMap:
    """Logits `weight @ mean_t((x - mean) / scale) + bias` of a known head, in float64."""

    head: KnownHead
    weight: Float[Tensor, "C D"]
    bias: Float[Tensor, "C"]

    @classmethod
    def of(cls, head: KnownHead) -> _AffineMap:
        weight, bias = weight_and_bias(head.module.classify)  # type: ignore[arg-type]
        if isinstance(head.module, Superb):
            projection, offset = weight_and_bias(head.module.project)
            weight, bias = weight @ projection, weight @ offset + bias
        return cls(head=head, weight=weight, bias=bias)

    def __call__(self, x: Float[Tensor, "N T D"]) -> Float[Tensor, "N C"]:
        return self.head.standardised(x).mean(1) @ self.weight.T + self.bias

    def slopes(self, frames: int) -> Float[Tensor, "C T D"]:
        slope = self.weight / self.head.scale / frames
        return slope[:, None, :].expand(-1, frames, -1)


@register("certificate", "affine")
@dataclasses.dataclass(frozen=True, kw_only=True)
class Affine:
    """The exact bound of the heads `linear` and `superb`, whose logits are affine in the features.

    Every utterance is either certified or can be misclassified by a change of its `k` elements of
    largest `epsilon * scale * |A|`.
    """

    name: ClassVar[str] = "affine"
    proven: ClassVar[bool] = True
    smoothed: ClassVar[bool] = False

    def suits(self, victim: Victim) -> bool:
        """Whether the victim is one of these heads."""
        return known_head(victim, _HEADS) is not None

    def __call__(
        self,
        victim: Victim,
        batch: FeatureBatch,
        labels: Int[Tensor, "B"],
        budget: Budget,
        *,
        mask: Bool[Tensor, "B T D"] | None = None,
    ) -> Certificate:
        """Certify a batch."""
        labels, _ = checked_task(victim, batch, labels, mask)
        head = known_head(victim, _HEADS)
        assert head is not None
        logits = _AffineMap.of(head)
        margins, allowances = [], []
        for allowed in allowed_changes(victim, batch, labels, budget, mask):
            clean = logits(allowed.x[None])[0]
            bounds = lower_bounds(clean, logits.slopes(len(allowed.x)), allowed)
            allowances.append(rounding_allowance(victim, logits, allowed))
            margins.append(float(bounds.min()) - allowances[-1])
        return Certificate(_numbers(margins), self.name, self.proven, _numbers(allowances))


def _numbers(values: list[float]) -> Float[Tensor, "B"]:
    return torch.tensor(values, dtype=torch.float64)
