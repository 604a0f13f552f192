"""The success curve: the smallest budget at which an attack succeeds for each utterance."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from sigma_ser.core.audit import audit
from sigma_ser.core.box import Box, box_of
from sigma_ser.core.budget import Budget, Granularity
from sigma_ser.core.contracts import Attack, AttackResult, Victim
from sigma_ser.core.errors import AttackError, BudgetError
from sigma_ser.core.features import FeatureBatch
from sigma_ser.core.passes import per_channel

from .minimum_norm import MinimumNormAttack

Minimise = Literal["sparsity", "epsilon"]


@dataclass(frozen=True, eq=False)
class SuccessCurve:
    """The smallest successful budget found for each utterance, with its perturbation.

    Attributes:
        smallest: `(B,)` number of changed units, or epsilon; 0 for utterances that are
            misclassified on the clean input, infinite if no budget succeeded. An utterance counts
            as misclassified at every larger budget.
        x_adv: `(B, T, D)` adversarial features within `smallest`; clean features if no budget
            succeeded.
        forwards, backwards: `(B,)` total passes of all runs.
    """

    smallest: Float[Tensor, "B"]
    x_adv: Float[Tensor, "B T D"]
    forwards: Int[Tensor, "B"]
    backwards: Int[Tensor, "B"]

    @property
    def success(self) -> Bool[Tensor, "B"]:
        """`(B,)` whether any budget of the search succeeded."""
        return torch.isfinite(self.smallest)

    def at(self, budgets: Sequence[float | int] | Float[Tensor, "P"]) -> Float[Tensor, "P"]:
        """The fraction of utterances misclassified within each budget, in [0, 1]."""
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
    """Bisect the budget of every utterance, with all utterances in one batch.

    The largest budget is tried first; utterances that withstand it are finished. For the others,
    each run uses the geometric mean of the largest budget that failed and the smallest that
    succeeded; the part of a budget that a run leaves unused narrows the bounds as well. A
    minimum-norm attack minimises the number of units itself and runs once.

    Args:
        attack: any attack, including `Sigma`.
        minimise: `sparsity` minimises the number of units at a fixed `epsilon`; `epsilon`
            minimises the bound at a fixed `sparsity`.
        epsilon: the bound, or its largest value, in units of scale.
        sparsity: the fraction of units, or its largest value, in (0, 1].
        granularity: the kind of unit, as in `Budget`; `segment_frames` likewise.
        tolerance: relative width of the bounds at which an utterance is finished, above 0.

    The other arguments are those of a call of the attack.

    Returns:
        The smallest budget of each utterance, audited.

    Raises:
        AttackError: if `minimise` or `tolerance` is invalid.
        BudgetError: if the largest budget is invalid.
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
    bisection = _Bisection(batch, largest, scale, minimise, box_of(victim))
    if minimise == "sparsity" and sparsity == 1 and isinstance(attack, MinimumNormAttack):
        result = attack.run(
            victim, batch, labels, largest, mask=mask, target=target, seeds=seeds, minimise=True
        )
        all_rows = torch.arange(len(batch), device=batch.device)
        bisection.update(all_rows, bisection.high, result)
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
        bisection.update(rows, tried, result)
    return bisection.curve(mask)


class _Bisection:
    """Bounds per utterance: `low` failed and `high` succeeded, in units or in epsilon."""

    def __init__(
        self,
        batch: FeatureBatch,
        largest: Budget,
        scale: Float[Tensor, "D"],
        minimise: Minimise,
        box: Box | None,
    ) -> None:
        self.batch, self.largest, self.scale, self.box = batch, largest, scale, box
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
        """Utterances whose bounds are wider than the tolerance."""
        least = 1.0 if self.by_units else 0.0
        apart = self.high - self.low > (tolerance * self.high).clamp(min=least)
        return (~self.tried | (apart & torch.isfinite(self.smallest))).nonzero()[:, 0]

    def next_budgets(self, rows: Int[Tensor, "R"]) -> Float[Tensor, "R"]:
        """The largest budget in the first run, then the geometric mean of the bounds."""
        low, high = self.low[rows], self.high[rows]
        # With a lower bound of zero the geometric mean is zero, so the upper bound is divided by 8.
        middle = torch.where(low > 0, (low * high).sqrt(), high / 8)
        if self.by_units:
            middle = middle.floor().maximum(low + 1).minimum(high - 1)
        return torch.where(self.tried[rows], middle, high)

    def budget(self, rows: Int[Tensor, "R"], tried: Float[Tensor, "R"]) -> Budget:
        """The budgets `tried` of these utterances."""
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

    def update(
        self, rows: Int[Tensor, "R"], tried: Float[Tensor, "R"], result: AttackResult
    ) -> None:
        """Narrow the bounds with the result of a run."""
        frames = result.x_adv.shape[1]
        self.forwards[rows] += result.forwards.to(rows.device)
        self.backwards[rows] += result.backwards.to(rows.device)
        self.tried[rows] = True
        fooled = result.success.to(rows.device)
        delta = result.x_adv.double() - self.batch.x[rows, :frames].double()
        if self.by_units:
            used = self.largest.touched(delta != 0, self.batch.lengths[rows]).to(tried)
        else:
            used = _rounded_up((delta.abs() / self.scale.double()).amax((1, 2)))
        # Rounding must not increase a bound.
        used = used.minimum(tried)
        self.low[rows] = torch.where(fooled, self.low[rows], tried)
        fooled_rows = rows[fooled]
        self.high[fooled_rows] = used[fooled]
        self.smallest[fooled_rows] = used[fooled]
        self.x_adv[fooled_rows, :frames] = result.x_adv[fooled]
        self.low = self.low.minimum(self.high)

    def curve(self, mask: Bool[Tensor, "B T D"] | None) -> SuccessCurve:
        """The result; the audit checks each perturbation against its claimed budget."""
        all_rows = torch.arange(len(self.batch), device=self.batch.device)
        claimed = torch.where(self.smallest.isfinite() & (self.smallest > 0), self.smallest, 1.0)
        budget = self.budget(all_rows, claimed)
        audit(self.batch, self.x_adv, budget, self.scale, mask, box=self.box)
        return SuccessCurve(self.smallest, self.x_adv, self.forwards, self.backwards)


def _rounded_up(epsilon: Float[Tensor, "R"]) -> Float[Tensor, "R"]:
    """The smallest float32 numbers of at least `epsilon`, which carries a float64 rounding."""
    exact = epsilon * (1 + 4 * torch.finfo(torch.float64).eps)
    found = exact.float()
    above = torch.nextafter(found, torch.full_like(found, torch.inf))
    return torch.where(found.double() < exact, above, found)


def _rows_of(
    mask: Bool[Tensor, "B T D"], rows: Int[Tensor, "R"], batch: FeatureBatch
) -> Bool[Tensor, "R F D"]:
    """The masks of some utterances, cut to the longest of them."""
    return mask[rows, : int(batch.lengths[rows].max())]
