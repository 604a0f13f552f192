"""Counts of the forward and backward passes of a victim, per utterance."""

from __future__ import annotations

from typing import Any, cast

import torch
from jaxtyping import Float, Int
from torch import Tensor

from .box import box_of
from .contracts import Victim
from .errors import GradientError, ShapeError, VictimError
from .features import FeatureBatch, ordinary, zero_padding


def per_channel(value: Tensor, x: Float[Tensor, "B T D"]) -> Float[Tensor, "D"]:
    """`mean` or `scale` of a victim as `(D,)`, with the device and type of the features.

    Raises:
        ShapeError: if the victim was made for features of another width.
    """
    channels = x.shape[2]
    if value.ndim > 1 or (value.ndim == 1 and len(value) not in (1, channels)):
        raise ShapeError(
            f"the victim has {tuple(value.shape)} channels but the features have {channels}; "
            "use the encoder and layer that it was trained on"
        )
    return ordinary(value.detach().to(x.device, x.dtype)).expand(channels)


def input_gradient(
    value: Tensor, x: Float[Tensor, "R T D"], *, create_graph: bool = False
) -> Float[Tensor, "R T D"]:
    """The gradient of a scalar with respect to the features.

    Raises:
        GradientError: if the value does not depend on the features. Trainable parameters give
            logits a gradient even where the victim detaches its features.
    """
    gradient: Tensor | None = None
    if value.requires_grad:
        (gradient,) = torch.autograd.grad(value, x, allow_unused=True, create_graph=create_graph)
    if gradient is None:
        raise GradientError(
            "no gradient reaches the features through this victim (it detaches them, or runs "
            "under no_grad); use an attack that needs no gradient, such as sparse-rs or "
            "sigma-autoattack, and an explainer that needs none, such as occlusion"
        )
    return gradient


class _CountBackward(torch.autograd.Function):
    """The identity; its backward pass is counted for each row."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, counted: CountedVictim, owner: Tensor) -> Tensor:
        ctx.counted, ctx.owner = counted, owner
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        ctx.counted.book_backwards(ctx.owner)
        return gradients[0], None, None


class CountedVictim:
    """A victim that counts its passes for each utterance.

    Args:
        victim: the victim itself.
        batch: the utterances; `mean` and `scale` are expanded to their channels.

    A row of a call belongs to utterance `owner[row]`; `None` means row by row. Explainers that
    expand a batch pass the expanded `owner`; attacks that drop utterances pass the remaining ones.
    Autograd itself counts the backward passes, so that those of other libraries are included.

    Raises:
        VictimError: if `victim` is not a victim.
        ShapeError: if `batch` is not a batch, or the victim has another number of channels.
    """

    def __init__(self, victim: Victim, batch: FeatureBatch) -> None:
        if not isinstance(victim, Victim):
            raise VictimError(
                f"{type(victim).__name__} is not a victim; "
                "ss.wrap(module) makes one from a torch module"
            )
        if not isinstance(batch, FeatureBatch):
            raise ShapeError(
                f"features must be an ss.FeatureBatch(x, lengths), got {type(batch).__name__}"
            )
        self.victim = victim
        # Victims of `wrap` do so themselves; others receive zeros on padding from here.
        self._clears_padding = bool(getattr(victim, "clears_padding", False))
        self.mean = per_channel(victim.mean, batch.x)
        self.scale = per_channel(victim.scale, batch.x)
        self.box = box_of(victim)
        self.forwards = torch.zeros(len(batch), dtype=torch.long)
        self.backwards = torch.zeros(len(batch), dtype=torch.long)

    @property
    def class_names(self) -> tuple[str, ...]:
        """Class names, in the order of the logits."""
        return self.victim.class_names

    def __call__(
        self,
        x: Float[Tensor, "R T D"],
        lengths: Int[Tensor, "R"],
        owner: Int[Tensor, "R"] | None = None,
    ) -> Float[Tensor, "R C"]:
        """Logits of the rows; each row counts as a forward pass of its owner."""
        owner = torch.arange(len(x)) if owner is None else owner.cpu()
        self.forwards.index_add_(0, owner, torch.ones_like(owner))
        if x.requires_grad:
            x = cast(Tensor, _CountBackward.apply(x, self, owner))  # type: ignore[no-untyped-call]
        if not self._clears_padding:
            x = zero_padding(x, lengths)
        return self.victim(x, lengths)

    def book_backwards(self, owner: Int[Tensor, "R"], passes: int = 1) -> None:
        """Count backward passes for each row; `-1` removes one from a row that needed none."""
        self.backwards.index_add_(0, owner, torch.full_like(owner, passes))
