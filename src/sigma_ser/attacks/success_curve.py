"""The success curve: the smallest budget at which an attack fools each utterance."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from sigma_ser.core.audit import audit
from sigma_ser.core.budget import Budget, Granularity
from sigma_ser.core.contracts import Attack, AttackResult, Victim
from sigma_ser.core.errors import AttackError, BudgetError
from sigma_ser.core.features import FeatureBatch
from sigma_ser.core.passes import per_channel

from .minimum_norm import MinimumNormAttack

Minimise = Literal["sparsity", "epsilon"]


@dataclass(frozen=True, eq=False)
class SuccessCurve:
    """The smallest budget found for each utterance, and the perturbation that keeps it.

    Attributes:
        smallest: `(B,)` changed units or epsilon; 0 where the utterance was wrong from the start,
            infinite where nothing fooled. An utterance counts as fooled at every larger budget.
        x_adv: `(B, T, D)` fooling features within `smallest`; clean where nothing fooled.
        forwards, backwards: `(B,)` passes of all runs together.
    """

    smallest: Float[Tensor, "B"]
    x_adv: Float[Tensor, "B T D"]
    forwards: Int[Tensor, "B"]
    backwards: Int[Tensor, "B"]

    @property
    def success(self) -> Bool[Tensor, "B"]:
        """Whether any budget within the search fooled."""
        return torch.isfinite(self.smallest)

    def at(self, budgets: Sequence[float | int] | Float[Tensor, "P"]) -> Float[Tensor, "P"]:
        """The share of the utterances that are fooled within each budget: never falls."""
        points = torch.as_tensor(budgets, dtype=torch.float32)
        return (self.smallest.cpu()[None, :] <= points[:, None]).float().mean(1)


def success_curve(
    attack: Attack,
    victim: Victim,
    batch: FeatureBatch,
    labels: Int[Tensor, "B"],
    *,
    minimise: Minimise = "sparsity",
    epsilon: float = 0.5,
    sparsity: float = 1.0,
    granularity: Granularity = "element",
    segment_frames: int = 10,
    tolerance: float = 0.05,
    mask: Bool[Tensor, "B T D"] | None = None,
    target: Int[Tensor, "B"] | None = None,
    seeds: Int[Tensor, "B"] | None = None,
) -> SuccessCurve:
    """Bisect the budget of every utterance, all of them in one batch.

    The largest budget comes first; whoever resists it is done with. The others get, run after
    run, the geometric mean of the largest budget that failed and the smallest that fooled; what a
    run leaves unused of its budget narrows the bounds as well. A minimum-norm attack finds the
    fewest units by itself and runs once.

    Args:
        attack: any attack, :class:`Sigma` too.
        minimise: `sparsity` looks for the fewest units at `epsilon`; `epsilon` for the smallest
            bound at `sparsity`.
        epsilon: the bound, or the largest one that is tried, in units of scale.
        sparsity: the share of units, or the largest one that is tried.
        granularity, segment_frames: what a unit is.
        tolerance: relative width of the bounds at which an utterance is done with, above 0.
        victim, batch, labels, mask, target, seeds: as for the attack.

    Raises:
        AttackError: if `minimise` or `tolerance` is not usable.
        BudgetError: if the largest budget is not.
    """
    if minimise not in get_args(Minimise):
        raise AttackError(f"minimise must be sparsity or epsilon, got {minimise!r}")
    if not tolerance > 0:
        raise AttackError(f"tolerance must be above 0, got {tolerance}")
    if minimise == "epsilon" and not epsilon > 0:
        raise BudgetError(f"the largest epsilon must be above 0, got {epsilon}")
    largest = Budget(
        sparsity=sparsity, epsilon=epsilon, granularity=granularity, segment_frames=segment_frames
    )
    scale = per_channel(victim.scale, batch.x)
    bisection = _Bisection(batch, largest, scale, minimise)
    if minimise == "sparsity" and sparsity == 1 and isinstance(attack, MinimumNormAttack):
        result = attack.run(
            victim, batch, labels, largest, mask=mask, target=target, seeds=seeds, minimise=True
        )
        everyone = torch.arange(len(batch), device=batch.device)
        bisection.learn(everyone, bisection.high, result)
        bisection.low[:] = bisection.high
    while len(rows := bisection.open(tolerance)):
        tried = bisection.next_budgets(rows)
        result = attack(
            victim,
            batch.select(rows),
            labels.to(batch.device)[rows],
            bisection.budget(rows, tried),
            mask=None if mask is None else _rows_of(mask.to(batch.device), rows, batch),
            target=None if target is None else target.to(batch.device)[rows],
            seeds=None if seeds is None else seeds.to(batch.device)[rows],
        )
        bisection.learn(rows, tried, result)
    return bisection.curve(mask)


class _Bisection:
    """The bounds of every utterance: `low` failed, `high` fooled, both in units or in epsilon."""

    def __init__(
        self,
        batch: FeatureBatch,
        largest: Budget,
        scale: Float[Tensor, "D"],
        minimise: Minimise,
    ) -> None:
        self.batch, self.largest, self.scale = batch, largest, scale
        self.by_units = minimise == "sparsity"
        most = largest.units(batch.lengths, batch.x.shape[2]).to(scale)
        self.high = most if self.by_units else torch.full_like(most, float(largest.epsilon))
        self.low = torch.zeros_like(self.high)
        self.smallest = torch.full_like(self.high, torch.inf)
        self.x_adv = batch.x.clone()
        self.tried = torch.zeros_like(batch.lengths, dtype=torch.bool)
        self.forwards = torch.zeros_like(batch.lengths)
        self.backwards = torch.zeros_like(batch.lengths)

    def open(self, tolerance: float) -> Int[Tensor, "R"]:
        """The utterances whose bounds are still too far apart."""
        least = 1.0 if self.by_units else 0.0
        apart = self.high - self.low > (tolerance * self.high).clamp(min=least)
        return (~self.tried | (apart & torch.isfinite(self.smallest))).nonzero()[:, 0]

    def next_budgets(self, rows: Int[Tensor, "R"]) -> Float[Tensor, "R"]:
        """The largest budget at first, then the geometric mean of the bounds."""
        low, high = self.low[rows], self.high[rows]
        # A bound of zero has no geometric mean: go down in large steps.
        middle = torch.where(low > 0, (low * high).sqrt(), high / 8)
        if self.by_units:
            middle = middle.floor().maximum(low + 1).minimum(high - 1)
        return torch.where(self.tried[rows], middle, high)

    def budget(self, rows: Int[Tensor, "R"], tried: Float[Tensor, "R"]) -> Budget:
        """A budget for each of these utterances."""
        base = self.largest
        if not self.by_units:
            return Budget(
                sparsity=base.sparsity, epsilon=tried[:, None], granularity=base.granularity,
                segment_frames=base.segment_frames,
            )  # fmt: skip
        lengths, channels = self.batch.lengths[rows], self.batch.x.shape[2]
        one = {
            "element": torch.ones_like(lengths),
            "frame": torch.full_like(lengths, channels),
            "channel": lengths,
            "segment": lengths.clamp(max=base.segment_frames) * channels,
        }[base.granularity]
        return Budget(
            count=tried.long() * one, epsilon=base.epsilon, granularity=base.granularity,
            segment_frames=base.segment_frames,
        )  # fmt: skip

    def learn(
        self, rows: Int[Tensor, "R"], tried: Float[Tensor, "R"], result: AttackResult
    ) -> None:
        """Narrow the bounds by what a run with these budgets has shown."""
        frames = result.x_adv.shape[1]
        self.forwards[rows] += result.forwards.to(rows.device)
        self.backwards[rows] += result.backwards.to(rows.device)
        self.tried[rows] = True
        fooled = result.success.to(rows.device)
        delta = result.x_adv - self.batch.x[rows, :frames]
        if self.by_units:
            used = self.largest.touched(delta != 0, self.batch.lengths[rows]).to(tried)
        else:
            used = (delta.abs() / self.scale).amax((1, 2))
        # Rounding of x + delta must not let a bound grow.
        used = used.minimum(tried)
        self.low[rows] = torch.where(fooled, self.low[rows], tried)
        won = rows[fooled]
        self.high[won] = used[fooled]
        self.smallest[won] = used[fooled]
        self.x_adv[won, :frames] = result.x_adv[fooled]
        self.low = self.low.minimum(self.high)

    def curve(self, mask: Bool[Tensor, "B T D"] | None) -> SuccessCurve:
        """The result, audited: each perturbation within the budget that is claimed for it."""
        everyone = torch.arange(len(self.batch), device=self.batch.device)
        claimed = torch.where(self.smallest.isfinite() & (self.smallest > 0), self.smallest, 1.0)
        audit(self.batch, self.x_adv, self.budget(everyone, claimed), self.scale, mask)
        return SuccessCurve(self.smallest, self.x_adv, self.forwards, self.backwards)


def _rows_of(
    mask: Bool[Tensor, "B T D"], rows: Int[Tensor, "R"], batch: FeatureBatch
) -> Bool[Tensor, "R F D"]:
    """The masks of some utterances, cut to the longest of them."""
    return mask[rows, : int(batch.lengths[rows].max())]
