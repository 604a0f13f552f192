"""The bound of the head `emobox`: one layer with ReLU on each frame, mean, linear."""

from __future__ import annotations

import dataclasses

from jaxtyping import Float
from torch import Tensor

from sigma_ser.victims.heads import EmoBox

from .allowed import Allowed
from .frames import damage_of_frames
from .structure import KnownHead, weight_and_bias


@dataclasses.dataclass(frozen=True, eq=False)
class EmoBoxBound:
    """The layers of a head `emobox` in float64."""

    head: KnownHead
    weight: Float[Tensor, "H D"]
    bias: Float[Tensor, "H"]
    out: Float[Tensor, "C H"]
    offset: Float[Tensor, "C"]

    @classmethod
    def of(cls, head: KnownHead) -> EmoBoxBound:
        """Read the layers of a head."""
        assert isinstance(head.module, EmoBox)
        first = weight_and_bias(head.module.project[0])
        return cls(head, *first, *weight_and_bias(head.module.classify))

    def logits(self, x: Float[Tensor, "N T D"]) -> Float[Tensor, "N C"]:
        """Logits of utterances without padding."""
        h = self.head.standardised(x) @ self.weight.T + self.bias
        return h.relu().mean(1) @ self.out.T + self.offset

    def damage(self, allowed: Allowed) -> Float[Tensor, "C"]:
        """How much `z_y - z_j` can fall at most, for each class."""
        h = self.head.standardised(allowed.x) @ self.weight.T + self.bias
        coefficients = (self.out[allowed.label] - self.out) / len(h)
        radius = allowed.radius / self.head.scale
        return damage_of_frames(
            self.weight, h, coefficients[:, None, :].expand(-1, len(h), -1), radius, allowed
        )
