"""The changes that a budget allows in one utterance."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from sigma_ser.attacks.problem import check_mask, checked_classes
from sigma_ser.core.budget import Budget
from sigma_ser.core.contracts import Victim
from sigma_ser.core.errors import CertificateError
from sigma_ser.core.features import FeatureBatch
from sigma_ser.core.passes import per_channel


@dataclass(frozen=True, eq=False)
class Allowed:
    """One utterance without padding, and the changes that the audit accepts for it.

    Attributes:
        x: float64 `(T, D)`, the features.
        label: the true class.
        radius: float64 `(T, D)`, the largest change of each element in feature units; zero outside
            the mask.
        units: the number of units that may change.
        budget: gives the units; its epsilon and count are contained in `radius` and `units`.

    As in the audit, a unit that lies partly inside the mask may change there.
    """

    x: Float[Tensor, "T D"]
    label: int
    radius: Float[Tensor, "T D"]
    units: int
    budget: Budget

    @property
    def most_per_frame(self) -> int:
        """The largest number of elements of one frame that may change."""
        channels = int((self.radius > 0).sum(1).max())
        by_unit = self.budget.granularity in {"element", "channel"}
        return min(channels, self.units) if by_unit else channels

    def largest(self, scores: Float[Tensor, "N T D"]) -> Float[Tensor, "N"]:
        """The sum of non-negative scores over the units for which it is largest."""
        frames = torch.full((len(scores),), scores.shape[1])
        sums = self.budget.unit_scores(scores, frames)
        return top_sum(sums, self.units)


def top_sum(scores: Float[Tensor, "*N U"], k: int) -> Float[Tensor, "*N"]:
    """The sum of the `k` largest scores in the last axis."""
    return scores.topk(min(k, scores.shape[-1]), dim=-1).values.sum(-1)


def allowed_changes(
    victim: Victim,
    batch: FeatureBatch,
    labels: Int[Tensor, "B"],
    budget: Budget,
    mask: Bool[Tensor, "B T D"] | None,
) -> Iterator[Allowed]:
    """Yield each utterance of a batch with its allowed changes, on the processor."""
    channels = batch.x.shape[2]
    bound = budget.bound(per_channel(victim.scale, batch.x).double()).cpu()
    units = budget.units(batch.lengths, channels).tolist()
    for row, frames in enumerate(batch.lengths.tolist()):
        radius = (bound if bound.ndim == 1 else bound[row, 0]).expand(frames, channels)
        if mask is not None:
            radius = radius * mask[row, :frames].cpu()
        x = batch.x[row, :frames].double().cpu()
        yield Allowed(x, int(labels[row]), radius, units[row], budget)


def checked_task(
    victim: Victim,
    batch: FeatureBatch,
    labels: Int[Tensor, "B"],
    mask: Bool[Tensor, "B T D"] | None,
) -> tuple[Int[Tensor, "B"], Float[Tensor, "B C"]]:
    """Check the arguments of a certificate; return the labels as int64, and the clean logits.

    Raises:
        CertificateError: if victim or batch are of another type.
        AttackError: if labels or mask do not fit, as for an attack.
        VictimError: if the victim returns logits that are not finite.
    """
    from sigma_ser.attacks.problem import check_logits

    if not isinstance(victim, Victim) or not isinstance(batch, FeatureBatch):
        raise CertificateError(
            "certify needs a victim (ss.wrap makes one) and an ss.FeatureBatch, got "
            f"{type(victim).__name__} and {type(batch).__name__}"
        )
    with torch.no_grad():
        logits = victim(batch.x, batch.lengths)
    check_logits(logits, batch)
    check_mask(mask, batch)
    return checked_classes("labels", labels, logits.shape[1], batch), logits
