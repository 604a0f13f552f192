"""The checked inputs of an attack."""

from __future__ import annotations

import dataclasses

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from sigma_ser.core.budget import Budget
from sigma_ser.core.errors import AttackError, VictimError
from sigma_ser.core.features import FeatureBatch
from sigma_ser.core.passes import CountedVictim
from sigma_ser.core.seeds import UtteranceNoise

from .inputs import copied, same, versions, weights_of
from .limits import Limits, ObservedRange

# What a search receives as a copy, and its name in errors.
_COPIED = {
    "batch": "clean features or lengths",
    "labels": "labels",
    "target": "target classes",
    "budget": "budget",
    "mask": "mask",
}


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
        attack: the name of the attack, for errors.
        weights: the versions of the victim's weights before the search.
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
    attack: str = "the attack"
    weights: list[tuple[int, int]] = dataclasses.field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "weights", versions(weights_of(self.victim.victim)))

    def copy(self) -> Problem:
        """The same problem with tensors of its own; the victim is shared."""
        return dataclasses.replace(self, **{name: copied(getattr(self, name)) for name in _COPIED})

    def require_unchanged(self, used: Problem) -> None:
        """Compare with a copy that an attack has worked on.

        Raises:
            AttackError: if the attack changed an input, or the weights of the victim.
        """
        for name, what in _COPIED.items():
            if not same(getattr(used, name), getattr(self, name)):
                raise changed_in_place(self.attack, what)
        if versions(weights_of(self.victim.victim)) != self.weights:
            raise changed_in_place(self.attack, "weights of the victim")


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


def changed_in_place(attack: str, what: str) -> AttackError:
    """The error for an attack that changes its inputs."""
    return AttackError(
        f"{attack} changes the {what} in place, so its result says nothing about the victim; "
        "let it work on a clone"
    )


def check_mask(mask: Tensor | None, batch: FeatureBatch) -> None:
    """Raise `AttackError` unless `mask` is `None` or a bool tensor like the features."""
    if mask is None:
        return
    if not isinstance(mask, Tensor):
        raise AttackError(
            f"a mask must be a bool torch tensor {tuple(batch.x.shape)} like the features, "
            f"got {type(mask).__name__}"
        )
    if mask.dtype != torch.bool or mask.shape != batch.x.shape:
        raise AttackError(
            f"a mask must be bool {tuple(batch.x.shape)} like the features, got {mask.dtype} "
            f"{tuple(mask.shape)}; ss.topk_mask(saliency, ...) returns one"
        )


def check_logits(logits: Tensor, batch: FeatureBatch) -> None:
    """Raise `VictimError` unless the logits are finite and of shape `(B, C)`, `C >= 2`."""
    if logits.ndim != 2 or len(logits) != len(batch) or logits.shape[1] < 2:
        raise VictimError(
            f"the victim must return logits of shape ({len(batch)}, C) with at least 2 classes, "
            f"got {tuple(logits.shape)}"
        )
    if not bool(torch.isfinite(logits).all()):
        raise not_finite(batch, logits, torch.arange(len(batch)))


def check_integers(what: str, values: Tensor, batch: FeatureBatch) -> None:
    """Raise `AttackError` unless `values` is an integer tensor of shape `(B,)`."""
    if not isinstance(values, Tensor):
        raise AttackError(
            f"{what} must be an integer tensor of shape ({len(batch)},), got "
            f"{type(values).__name__}; convert it with torch.tensor(...)"
        )
    if values.shape != (len(batch),) or values.is_floating_point() or values.dtype == torch.bool:
        raise AttackError(
            f"{what} must be an integer tensor of shape ({len(batch)},), "
            f"got {values.dtype} {tuple(values.shape)}"
        )


def checked_classes(
    what: str, classes: Tensor, number: int, batch: FeatureBatch
) -> Int[Tensor, "B"]:
    """Return class indices as int64 on the device of the batch.

    Raises:
        AttackError: if they are not integers of shape `(B,)` between 0 and `number - 1`.
    """
    check_integers(f"{what} (class indices)", classes, batch)
    if bool(((classes < 0) | (classes >= number)).any()):
        raise AttackError(
            f"{what} must lie between 0 and {number - 1}: the victim has {number} classes"
        )
    return classes.to(batch.device, torch.long)
