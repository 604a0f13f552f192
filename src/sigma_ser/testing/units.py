"""Attacks do not depend on the unit of the logits, or on the default type of torch."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from sigma_ser.core.contracts import Attack, AttackResult, Victim
from sigma_ser.core.features import FeatureBatch

from .laws import ConformanceError, name_of, require, require_close

# Powers of two round nothing, so that both victims have the same decisions everywhere.
_EXPONENTS = (-20, 20)
_TOLERATED = 0.05


@dataclass(frozen=True)
class Rescaled:
    """A victim with the same decisions, whose logits are multiplied by a factor."""

    victim: Victim
    factor: float

    @property
    def class_names(self) -> tuple[str, ...]:
        return self.victim.class_names

    @property
    def mean(self) -> Tensor:
        return self.victim.mean

    @property
    def scale(self) -> Tensor:
        return self.victim.scale

    def __call__(self, x: Float[Tensor, "B T D"], lengths: Int[Tensor, "B"]) -> Tensor:
        return self.victim(x, lengths) * self.factor


def check_unit_of_logits(
    attack: Attack, victim: Victim, batch: FeatureBatch, labels: Int[Tensor, "B"], **task: object
) -> None:
    """Raise if logits in another unit change the success rate by more than 5 points.

    Args:
        attack: an attack.
        victim, batch, labels: as for its call.
        task: the other arguments of its call: `budget`, `mask`, `target`, `seeds`.
    """
    rate = _success_rate(attack(victim, batch, labels, **task))  # type: ignore[arg-type]
    for exponent in _EXPONENTS:
        other = Rescaled(victim, 2.0**exponent)
        found = _success_rate(attack(other, batch, labels, **task))  # type: ignore[arg-type]
        require(
            abs(found - rate) <= _TOLERATED,
            attack,
            f"succeeds on {100 * found:.0f} % instead of {100 * rate:.0f} % of the utterances when "
            f"the logits are multiplied by 2^{exponent}; normalise its loss by the clean logits",
        )


def _success_rate(result: AttackResult) -> float:
    return float(result.success.float().mean())


def check_default_dtype(
    attack: Attack, victim: Victim, batch: FeatureBatch, labels: Int[Tensor, "B"], **task: object
) -> None:
    """Raise if the attack fails or returns another result while the default type is float64.

    A victim that itself depends on the default type is not attacked.

    Args:
        attack: an attack.
        victim, batch, labels: as for its call.
        task: the other arguments of its call: `budget`, `mask`, `target`, `seeds`.
    """
    before = attack(victim, batch, labels, **task)  # type: ignore[arg-type]
    with _float64_by_default():
        try:
            usable = victim(batch.x, batch.lengths).dtype == torch.float32
        except Exception:
            usable = False
        if not usable:
            return
        try:
            after = attack(victim, batch, labels, **task)  # type: ignore[arg-type]
        except Exception as fault:
            raise ConformanceError(
                f"{name_of(attack)} fails when the default type of torch is float64 "
                f"({type(fault).__name__}: {fault}); create tensors in the type of the features"
            ) from fault
    law = "returns another result when the default type of torch is float64"
    require(after.x_adv.dtype == torch.float32, attack, law)
    require(torch.equal(before.success, after.success), attack, law)
    require_close(after.x_adv, before.x_adv, attack, law, atol=1e-5, rtol=1.3e-6)


@contextlib.contextmanager
def _float64_by_default() -> Iterator[None]:
    default = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        yield
    finally:
        torch.set_default_dtype(default)
