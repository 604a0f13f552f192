"""The checked inputs of an attack."""

from __future__ import annotations

import dataclasses

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from sigma_ser.core.budget import Budget
from sigma_ser.core.errors import VictimError
from sigma_ser.core.features import FeatureBatch
from sigma_ser.core.passes import CountedVictim
from sigma_ser.core.seeds import UtteranceNoise

from .limits import Limits, ObservedRange


@dataclasses.dataclass(frozen=True, eq=False)
class Problem:
    """The optimisation problem of an attack on one batch; all inputs are checked.

    Attributes:
        victim: the attacked model, with pass counters.
        batch: clean features `(B, T, D)`.
        labels: true class indices `(B,)`.
        target: target class indices `(B,)`; `None`: untargeted.
        budget: the number of units that may change, and by how much.
        mask: bool `(B, T, D)`, the elements that may change; `None`: all valid elements.
        noise: random generators, one per utterance.
        clean_logits: `(B, C)`.
        box: range of each channel that the adversarial features must stay in.
        limits: maximum number of passes and seconds.
        minimise: search for the fewest units instead of at most `k`.
    """

    victim: CountedVictim
    batch: FeatureBatch
    labels: Int[Tensor, "B"]
    target: Int[Tensor, "B"] | None
    budget: Budget
    mask: Bool[Tensor, "B T D"] | None
    noise: UtteranceNoise
    clean_logits: Float[Tensor, "B C"]
    box: ObservedRange | None = None
    limits: Limits = Limits()  # noqa: RUF009 - frozen
    minimise: bool = False


def not_finite(
    batch: FeatureBatch, logits: Float[Tensor, "R C"], owner: Int[Tensor, "R"]
) -> VictimError:
    """The error for non-finite logits, which names the first utterance concerned."""
    bad = (~torch.isfinite(logits)).any(1).cpu().nonzero()[0, 0]
    name = batch.ids[int(owner[bad])]
    return VictimError(
        f"the victim returned logits that are not finite for utterance {name!r}; check its "
        "features and the victim's weights"
    )
