"""Dual averaging over the k-sparse corners of the ball: our strongest attack for its cost."""

from __future__ import annotations

import dataclasses

from sigma_ser.core.errors import AttackError
from sigma_ser.core.registry import register

from .active_set import ActiveSet
from .attack import SparseAttack, check_positive
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

    Args:
        steps: gradients of each run.
        losses: one run each, later ones for the survivors of the earlier.
        all_targets: then one run for each other class, the likeliest first (untargeted only).
        growth: power of `t` in the weights; 0 weighs all gradients alike.
        normalised: divide each gradient by its 2-norm before it is weighed.
    """

    steps: int = 20
    losses: tuple[LossName, ...] = ("cross-entropy", "margin")
    all_targets: bool = False
    growth: float = 1.0
    normalised: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        check_positive(self, "steps")
        unknown = [name for name in self.losses if name not in LOSSES]
        if unknown or not self.losses:
            raise AttackError(
                f"losses must be some of {', '.join(LOSSES)}, got {', '.join(self.losses) or '()'}"
            )

    def search(self, active: ActiveSet) -> None:
        for name in self.losses:
            self._run(active, LOSSES[name], None)
        if self.all_targets and active.target is None:
            for rival in range(active.rivals.shape[1]):
                self._run(active, LOSSES["margin"], rival)

    def _run(self, active: ActiveSet, loss: Loss, rival: int | None) -> None:
        total, delta = active.zeros(), active.zeros()
        for step in range(self.steps):
            gradient, total = active.gradient(delta if step else None, loss, total, rival=rival)
            if self.normalised:
                gradient = l2_normalised(gradient)
            total.add_(gradient, alpha=(step + 1) ** self.growth)
            delta = active.corner(total)
        active.observe(delta)
