"""What a certificate states, and what a method of certification offers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Protocol, runtime_checkable

from jaxtyping import Bool, Float, Int
from torch import Tensor

from sigma_ser.core.budget import Budget
from sigma_ser.core.contracts import Victim
from sigma_ser.core.errors import CertificateError
from sigma_ser.core.features import FeatureBatch


@dataclass(frozen=True, eq=False)
class Certificate:
    """Lower bounds on the margins of a batch under every change that the budget allows.

    Attributes:
        margin: float64 `(B,)`: no allowed change makes `z_y - max_j z_j` smaller than this; the
            allowance is already subtracted. `-inf` where nothing is known.
        method: the registered name of the method; `none` if no method suits the victim.
        proven: whether the bound is proven. A bound that only passed tests is not.
        allowance: float64 `(B,)`, what was subtracted for the rounding errors of the victim's own
            arithmetic, in logits.
    """

    margin: Float[Tensor, "B"]
    method: str
    proven: bool
    allowance: Float[Tensor, "B"]

    def __post_init__(self) -> None:
        if bool(self.margin.isnan().any()):
            raise CertificateError(
                f"the certificate {self.method!r} computed a margin that is not a number; "
                "check the features and the victim's weights"
            )

    @property
    def certified(self) -> Bool[Tensor, "B"]:
        """Utterances that no allowed change can make the victim misclassify."""
        return self.margin > 0


@runtime_checkable
class CertificateMethod(Protocol):
    """Bounds the margins of a victim; a frozen dataclass whose fields are its settings."""

    name: ClassVar[str]
    """The registered name."""
    proven: ClassVar[bool]
    """Whether its bounds are proven."""
    smoothed: ClassVar[bool]
    """Whether it certifies another model, made of the victim by random ablation."""

    def suits(self, victim: Victim) -> bool:
        """Whether the method can bound this victim."""

    def __call__(
        self,
        victim: Victim,
        batch: FeatureBatch,
        labels: Int[Tensor, "B"],
        budget: Budget,
        *,
        mask: Bool[Tensor, "B T D"] | None = None,
    ) -> Certificate:
        """Certify a batch; with a mask, only its elements may change."""
