"""Dual averaging over the vertices of the k-sparse ball."""

from __future__ import annotations

import dataclasses
import math

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
    """Dual averaging over the k-sparse ball (Nesterov 2009, eq. 2.14; this project's attack).

    `G <- G + t^growth g_t`, then `delta = epsilon * sign(G)` on the `k` units of largest
    `|G| * scale`. Because `G` accumulates all gradients, an element leaves the support only if
    later gradients outweigh earlier ones, so the support converges where plain gradient steps
    oscillate. Later gradients have larger weights because they are evaluated nearer to the final
    iterate.

    Rounds after the first start at the best perturbation so far. Its signs initialise the new sum
    with weight `anchor * max |g|`, so its elements stay in the support unless the new gradients
    oppose them.

    A frame, channel or segment has hundreds of elements, and changes of all of them to the full
    bound are not the largest change of the loss on a non-linear victim. Where whole units may
    change, later rounds therefore have half of the steps, and sign steps of decreasing size follow
    on the support of the best perturbation, inside the ball (Madry et al. 2018, section 2.1).

    Args:
        steps: gradient steps per run, at least 1; a round has one run per loss.
        losses: maximised losses, see `losses`; later runs attack only the utterances that
            are still classified correctly.
        rounds: number of passes over `losses`, at least 1.
        anchor: weight of the best perturbation in later rounds, at least 0.
        all_targets: add one targeted run per other class, in order of the clean logits
            (untargeted attacks only).
        growth: exponent of `t` in the weights; 0 gives equal weights.
        normalised: divide each gradient by its 2-norm before it is added.
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
                f"losses must be one or more of {', '.join(LOSSES)}, "
                f"got {', '.join(self.losses) or '()'}"
            )

    def search(self, active: ActiveSet) -> None:
        units = active.budget.granularity != "element"
        later = (self.steps + 1) // 2 if units else self.steps
        for number in range(self.rounds):
            for name in self.losses:
                steps = later if number else self.steps
                self._run(active, LOSSES[name], None, steps, again=number > 0)
        if units:
            for name in self.losses:
                self._inside(active, LOSSES[name])
        if self.all_targets and active.target is None:
            for rival in range(active.rivals.shape[1]):
                self._run(active, LOSSES["margin"], rival, self.steps, again=False)

    def _run(
        self, active: ActiveSet, loss: Loss, rival: int | None, steps: int, *, again: bool
    ) -> None:
        delta = active.best if again else active.zeros()
        total = torch.sign(delta)
        for step in range(steps):
            start = not step and not again
            gradient, total = active.gradient(None if start else delta, loss, total, rival=rival)
            if self.normalised:
                gradient = l2_normalised(gradient)
            if again and step == 0:
                total.mul_(self.anchor * gradient.abs().amax((1, 2), keepdim=True))
            total.add_(gradient, alpha=(step + 1) ** self.growth)
            del gradient  # frees memory for the next pass
            delta = active.corner(total)
        active.observe(delta)

    def _inside(self, active: ActiveSet, loss: Loss) -> None:
        """Sign steps on the support of the best perturbation, from there."""
        delta, support = active.best, active.best != 0
        for step in range(self.steps):
            gradient, delta, support = active.gradient(delta, loss, delta, support)
            size = 0.25 * (1 + math.cos(math.pi * step / self.steps))
            moved = active.clip(delta + size * active.bound * torch.sign(gradient))
            delta = torch.where(support, moved, 0.0)
        active.observe(delta)
