"""The victim in the form that image libraries expect: images in [0, 1] to logits."""

from __future__ import annotations

from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from sigma_ser.attacks.active_set import ActiveSet
from sigma_ser.attacks.limits import Limits, Meter
from sigma_ser.core.errors import AttackError
from sigma_ser.core.topk import topk_support

Cut = Literal["after", "inside"]


class MaskedVictim(nn.Module):
    """`z -> f(x + m (2 z - 1) epsilon scale)` for images `z (R, 1, T, D)` in [0, 1].

    Every `z` in the box is a perturbation inside the mask and the Linf ball, and `z = 0.5` is the
    clean input. With an observed range, the lower and upper half of the box map to the lower and
    upper bound of each element. The logits are multiplied by `losses.spread_factor`, because
    losses and constants of other libraries depend on their unit.

    Args:
        active: the active set of the search.
        rows: `(R,)` utterances of equal length.
        cut: `inside` evaluates only the `k` units of largest `|delta| / epsilon`, with a
            straight-through gradient to all units; `after` evaluates all units.
        limits: maximum number of passes and seconds.
    """

    def __init__(self, active: ActiveSet, rows: Int[Tensor, "R"], cut: Cut, limits: Limits) -> None:
        super().__init__()
        frames = int(active.lengths[rows[0]])
        clean = active.x[rows, :frames]
        self._active, self._cut = active, cut
        self._clean, self._lengths = clean, active.lengths[rows]
        self._owner = active.owner[rows.cpu()]
        self._units = active.units[rows]
        self._factor = active.spread_factor[rows]
        self._allowed = active.allowed[rows, :frames]
        self._lower = _rows_of(active.lower, rows, frames, clean)
        self._upper = _rows_of(active.upper, rows, frames, clean)
        self._bound = _rows_of(active.bound, rows, frames, clean)
        self._meter = Meter(limits)
        self._meter.started = active.meter.started
        self.last: Tensor | None = None
        # Libraries read the device from the first parameter.
        self.device_of = nn.Parameter(clean.new_zeros(()), requires_grad=False)
        self.eval()

    @property
    def start(self) -> Float[Tensor, "R 1 T D"]:
        """The clean input, the centre of the box."""
        return torch.full_like(self._clean, 0.5)[:, None]

    def delta(self, z: Float[Tensor, "N 1 T D"]) -> Float[Tensor, "N T D"]:
        """The perturbation that an image represents."""
        repeated = self._repeats(len(z))
        move = 2 * z[:, 0] - 1
        # torch.where instead of two clamps, so that the gradient at the clean input is not zero.
        reach = torch.where(move >= 0, self._upper, -self._lower)
        allowed = self._allowed.expand(repeated * len(self._allowed), -1, -1)
        return torch.where(allowed, move * reach, 0.0)

    def forward(self, z: Float[Tensor, "N 1 T D"]) -> Float[Tensor, "N C"]:
        """Logits of images."""
        repeated = self._repeats(len(z))
        wanted = 2 if z.requires_grad and torch.is_grad_enabled() else 1
        self._meter.spend(wanted * repeated)
        delta = self.delta(z)
        if self._cut == "inside":
            delta = delta + (self._kept(delta.detach()) - delta).detach()
        if repeated == 1:
            self.last = z.detach()
        logits: Tensor = self._active.victim(
            self._clean + delta, self._lengths.repeat(repeated), self._owner.repeat(repeated)
        )
        return logits * self._factor.repeat(repeated)[:, None].to(logits.dtype)

    def _repeats(self, images: int) -> int:
        """The number of images per utterance."""
        rows = len(self._clean)
        if images == rows:
            return 1
        if rows == 1:
            return images
        raise AttackError(
            f"this attack evaluates {images} images for a batch of {rows}, so they cannot be "
            "assigned to utterances; create the attack with together=False"
        )

    def _kept(self, delta: Float[Tensor, "N T D"]) -> Float[Tensor, "N T D"]:
        """`delta` restricted to its `k` units of largest `|delta| / epsilon`."""
        budget, repeated = self._active.budget, self._repeats(len(delta))
        lengths = self._lengths.repeat(repeated)
        size = delta.abs() / self._bound.clamp(min=1e-30)
        units = topk_support(
            budget.unit_scores(size, lengths),
            self._units.repeat(repeated),
            budget.unit_allowed(self._allowed.repeat(repeated, 1, 1), lengths, delta.shape),
        )
        return delta * budget.expand(units, lengths, delta.shape)


def _rows_of(
    bound: Tensor, rows: Tensor, frames: int, like: Float[Tensor, "R T D"]
) -> Float[Tensor, "#R #T D"]:
    """A bound of the active set, `(D,)`, `(A, 1, D)` or `(A, T, D)`, for some of its rows."""
    if bound.ndim == 1:
        return bound.to(like)[None, None]
    return bound[rows, :frames]
