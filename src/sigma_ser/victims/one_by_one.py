"""Victims whose logits depend on the other utterances of a batch, evaluated one by one."""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from sigma_ser.core.contracts import Victim


def uses_batch_statistics(module: nn.Module) -> bool:
    """Whether a module has batch normalisation without running statistics."""
    return any(
        isinstance(part, nn.modules.batchnorm._BatchNorm) and part.running_mean is None
        for part in module.modules()
    )


def one_by_one(
    call: Callable[[Tensor, Tensor], Tensor], x: Float[Tensor, "B T D"], lengths: Int[Tensor, "B"]
) -> Tensor:
    """Logits of each utterance alone, without padding."""
    rows = range(len(x))
    return torch.cat(
        [call(x[row : row + 1, : int(lengths[row])], lengths[row : row + 1]) for row in rows]
    )


class OneByOne:
    """A victim that receives every utterance alone and without padding.

    The logits of an utterance then depend on nothing else in its batch.

    Args:
        victim: a victim whose logits depend on the batch.
    """

    def __init__(self, victim: Victim) -> None:
        self.victim = victim
        # Checks of the weights look for the module of a victim.
        self.module = getattr(victim, "module", None)

    @property
    def class_names(self) -> tuple[str, ...]:
        """Class names, in the order of the logits."""
        return self.victim.class_names

    @property
    def mean(self) -> Tensor:
        """Channel means of the training features."""
        return self.victim.mean

    @property
    def scale(self) -> Tensor:
        """Channel standard deviations of the training features."""
        return self.victim.scale

    def __call__(
        self, x: Float[Tensor, "B T D"], lengths: Int[Tensor, "B"]
    ) -> Float[Tensor, "B C"]:
        """Logits `(B, C)`, one utterance at a time."""
        return one_by_one(self.victim, x, lengths)
