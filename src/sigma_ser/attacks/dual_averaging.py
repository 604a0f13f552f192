"""Dual averaging over the k-sparse corners of the ball: our strongest attack for its cost."""

from __future__ import annotations

import dataclasses

import torch

from sigma_ser.core.errors import AttackError
from sigma_ser.core.registry import register

from .active_set import ActiveSet
from .base import SparseAttack, check_positive
from .losses import LOSSES, Loss, LossName
from .projections import l2_normalised


@register("attack", "dual-averaging")
@dataclasses.dataclass(frozen=True, kw_only=True, repr=False)
class DualAveraging(SparseAttack):
    """Go to the corner that the weighted sum of all gradients so far points to.

    `G <- G + t^growth g_t`, `delta = eps * sign(G)` on the top `k` of `|G| * scale`: Nesterov's
    dual averaging (2009, eq. 2.14) over the k-sparse corners of the Linf ball. The sum remembers:
    an element leaves the support only when the evidence against it outweighs all that was for it,
    so the support settles where plain gradient steps oscillate. Later gradients weigh more, since
    they were taken nearer to where the attack ends.

    Rounds after the first start at the best perturbation so far. Its elements enter the new sum
    with `anchor` times the largest slope found there, so that they stay unless the new gradients
    speak against them; what those add up to is seen from a better point than the clean input.

    Args:
        steps: gradients of each run; a round has one run for each loss.
        losses: one run each, later ones for the survivors of the earlier.
        rounds: how often all losses have their turn.
        anchor: weight of the best perturbation in the runs of later rounds.
        all_targets: then one run for each other class, the likeliest first (untargeted only).
        growth: power of `t` in the weights; 0 weighs all gradients alike.
        normalised: divide each gradient by its 2-norm before it is weighed.
    """

    steps: int = 10
    losses: tuple[LossName, ...] = ("cross-entropy", "margin")
    rounds: int = 2
    anchor: float = 0.5
    all_targets: bool = False
    growth: float = 1.0
    normalised: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        check_positive(self, "steps", "rounds")
        unknown = [name for name in self.losses if name not in LOSSES]
        if unknown or not self.losses:
            raise AttackError(
                f"losses must be some of {', '.join(LOSSES)}, got {', '.join(self.losses) or '()'}"
            )

    def search(self, active: ActiveSet) -> None:
        for number in range(self.rounds):
            for name in self.losses:
                self._run(active, LOSSES[name], None, again=number > 0)
        if self.all_targets and active.target is None:
            for rival in range(active.rivals.shape[1]):
                self._run(active, LOSSES["margin"], rival, again=False)

    def _run(self, active: ActiveSet, loss: Loss, rival: int | None, *, again: bool) -> None:
        delta = active.best if again else active.zeros()
        total = torch.sign(delta)
        for step in range(self.steps):
            start = not step and not again
            gradient, total = active.gradient(None if start else delta, loss, total, rival=rival)
            if self.normalised:
                gradient = l2_normalised(gradient)
            if again and step == 0:
                total.mul_(self.anchor * gradient.abs().amax((1, 2), keepdim=True))
            total.add_(gradient, alpha=(step + 1) ** self.growth)
            del gradient  # the next pass needs its memory
            delta = active.corner(total)
        active.observe(delta)
