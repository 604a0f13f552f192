"""What an attack is asked to do with a batch, once its parts have been checked."""

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
class Task:
    """What an attack is asked to do with a batch, checked.

    `labels` and `target` are `(B,)`, `mask` is `(B, T, D)` or `None`, `noise` draws for the whole
    batch, `clean_logits` is `(B, C)`; `minimise` asks for the fewest units instead of `k`.
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
    """The error for logits that are not finite, naming the first utterance that gave them."""
    bad = (~torch.isfinite(logits)).any(1).cpu().nonzero()[0, 0]
    name = batch.ids[int(owner[bad])]
    return VictimError(
        f"the victim gave logits that are not finite for utterance {name!r}; check its features "
        "and the victim's weights"
    )
