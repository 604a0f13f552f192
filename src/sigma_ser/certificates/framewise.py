"""The method `framewise`: heads that work on each frame, with the budget shared out over frames."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import ClassVar, Protocol

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from sigma_ser.core.budget import Budget
from sigma_ser.core.contracts import Victim
from sigma_ser.core.features import FeatureBatch
from sigma_ser.core.registry import register
from sigma_ser.victims.heads import CNN, MLP, EmoBox

from .allowed import Allowed, allowed_changes, checked_task
from .certificate import Certificate
from .cnn import CNNBound
from .emobox import EmoBoxBound
from .mlp import MLPBound
from .rounding import rounding_allowance
from .structure import KnownHead, known_head


class HeadBound(Protocol):
    """The layers of one kind of head, and how much a change can move its margins."""

    def logits(self, x: Float[Tensor, "N T D"]) -> Float[Tensor, "N C"]:
        """Logits in float64."""

    def damage(self, allowed: Allowed) -> Float[Tensor, "C"]:
        """An upper bound of the decrease of `z_y - z_j` for each class `j`."""


_BOUNDS: dict[type[nn.Module], Callable[[KnownHead], HeadBound]] = {
    EmoBox: EmoBoxBound.of,
    MLP: MLPBound.of,
    CNN: CNNBound.of,
}


@register("certificate", "framewise")
@dataclasses.dataclass(frozen=True, kw_only=True)
class Framewise:
    """A bound for the heads `emobox`, `mlp` and `cnn`.

    ReLU is bounded on the interval that a number of changes in a frame can reach; the worst split
    of the budget over the frames is bounded by duality. See the modules `relaxation` and `sharing`.
    The relaxation of ReLU is that of Salman et al. (2019) in the form of single elements.
    """

    name: ClassVar[str] = "framewise"
    proven: ClassVar[bool] = True
    smoothed: ClassVar[bool] = False

    def suits(self, victim: Victim) -> bool:
        """Whether the victim is one of these heads."""
        return known_head(victim, tuple(_BOUNDS)) is not None

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
        head = known_head(victim, tuple(_BOUNDS))
        assert head is not None
        bound = _BOUNDS[type(head.module)](head)
        margins, allowances = [], []
        for allowed in allowed_changes(victim, batch, labels, budget, mask):
            clean = bound.logits(allowed.x[None])[0]
            others = clean[allowed.label] - clean - bound.damage(allowed)
            others[allowed.label] = torch.inf
            allowances.append(rounding_allowance(victim, bound.logits, allowed))
            margins.append(float(others.min()) - allowances[-1])
        return Certificate(
            torch.tensor(margins, dtype=torch.float64),
            self.name,
            self.proven,
            torch.tensor(allowances, dtype=torch.float64),
        )
