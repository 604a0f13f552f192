"""Dual averaging over the k-sparse corners of the ball: our strongest attack for its cost."""

from __future__ import annotations

import dataclasses

from sigma_ser.core.registry import register

from .active_set import ActiveSet
from .attack import SparseAttack, check_positive
from .losses import LOSSES, Loss, LossName
from .projections import l2_normalised


@register("attack", "dual-averaging")
@dataclasses.dataclass(frozen=True, kw_only=True, repr=False)
class DualAveraging(SparseAttack):
    """Go to the corner that the sum of all gradients so far points to.

    `G <- G + g / |g|_2`, `delta = eps * sign(G)` on the top `k` of `|G| * scale`: Nesterov's dual
    averaging (2009), or lazy mirror descent, over the k-sparse corners of the Linf ball.

    Args:
        steps: gradients of each run.
        losses: one run each, later ones for the survivors of the earlier.
        all_targets: then one run for each other class, the likeliest first (untargeted only).
    """

    steps: int = 20
    losses: tuple[LossName, ...] = ("cross-entropy", "margin")
    all_targets: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        check_positive(self, "steps")

    def search(self, active: ActiveSet) -> None:
        for name in self.losses:
            self._run(active, LOSSES[name], None)
        if self.all_targets and active.target is None:
            for rival in range(active.rivals.shape[1]):
                self._run(active, LOSSES["margin"], rival)

    def _run(self, active: ActiveSet, loss: Loss, rival: int | None) -> None:
        total = active.zeros()
        delta = active.zeros()
        for step in range(self.steps):
            gradient, total = active.gradient(delta if step else None, loss, total, rival=rival)
            total += l2_normalised(gradient)
            delta = active.corner(total)
        active.observe(delta)
