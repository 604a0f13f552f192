"""Ensembles: attacks in sequence, each on the utterances that withstood the previous ones."""

from __future__ import annotations

import dataclasses

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from sigma_ser.core.errors import AttackError, GradientError
from sigma_ser.core.registry import register

from .active_set import ActiveSet, Objective
from .base import SparseAttack
from .black_box import BlackBoxAttack
from .dual_averaging import DualAveraging
from .problem import Problem
from .reselect import Reselect
from .sparse_rs import SparseRS
from .spgd import SparsePGD
from .surrogate_gradient import SmoothedGradient, SurrogateGradient, are_probabilities, is_flat

# An attack without gradients leads where it raises the margin this much further. On plain victims
# it is ahead by a little where all attacks have come close to the same maximum.
_LEAD = 1.1


class WatchedSet(ActiveSet):
    """An active set that records which utterances have a gradient, at no additional pass.

    Attributes:
        blind: `(B,)` of the problem: whether all gradients so far were zero (within the resolution
            of float32) or missing.
        led: `(B,)` of the problem: whether an attack without gradients raised the margin by more
            than 1.1 times what all attacks with gradients before it reached.
    """

    def __init__(self, problem: Problem, rows: Int[Tensor, "A"]) -> None:
        none = torch.zeros_like(problem.labels, dtype=torch.bool)
        self._asked, self._steep, self.led = none, none.clone(), none.clone()
        super().__init__(problem, rows)

    @property
    def blind(self) -> Bool[Tensor, "B"]:
        return self._asked & ~self._steep

    def suspected(self) -> Bool[Tensor, "A"]:
        """Active utterances for which the gradient seems to be of no use, or logits are hidden."""
        probabilities = are_probabilities(self.problem.clean_logits)
        return (self.blind | self.led | probabilities)[self.rows]

    def ascent(
        self,
        delta: Float[Tensor, "A T D"] | None,
        objective: Objective,
        *state: Tensor,
        counts: bool = True,
    ) -> tuple[Tensor, ...]:
        self._asked[self.rows] = True
        gradient, *kept = super().ascent(delta, objective, *state, counts=counts)
        # A loss may be flat where another one is not, such as cross-entropy on saturated logits.
        if not bool(self._steep[self.rows].all()):
            largest = self.problem.clean_logits[self.rows].abs().amax(1)
            flat = is_flat(gradient, self.bound, self.units, largest * self.spread_factor)
            self._steep[self.rows] |= ~flat
        return gradient, *kept


@dataclasses.dataclass(frozen=True, kw_only=True, repr=False)
class Ensemble(SparseAttack):
    """Attacks in sequence; an utterance leaves at its first success.

    Without a success, the perturbation with the largest margin over all members is the result.
    On a victim without gradients, only the members that need none are run.

    Args:
        members: attacks of this package, at least one. Their own limits are ignored; the limits
            of the ensemble apply.
    """

    members: tuple[SparseAttack, ...]

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.members:
            raise AttackError(f"{type(self).__name__} needs at least one member")
        if any(getattr(member, "feedback", "logits") != "logits" for member in self.members):
            raise AttackError(
                "members of an ensemble observe logits; run attacks with feedback='decision' alone"
            )

    def active_set(self, problem: Problem, rows: Int[Tensor, "A"]) -> WatchedSet:
        return WatchedSet(problem, rows)

    def search(self, active: ActiveSet) -> None:
        assert isinstance(active, WatchedSet)
        missing: GradientError | None = None
        for member in self.members:
            needs_none = isinstance(member, BlackBoxAttack)
            # Gradient attacks that follow a gradient of zero would spend passes on the clean input.
            if not needs_none and bool(active.blind[active.rows].all()):
                continue
            goal = torch.full_like(active.problem.clean_logits[:, 0], torch.inf)
            goal[active.rows] = self._lead(active)
            try:
                member.search(active)
            except GradientError as fault:
                missing = fault
            if needs_none:
                active.led[active.rows] |= active.best_margin > goal[active.rows]
        if missing is not None and not any(isinstance(one, BlackBoxAttack) for one in self.members):
            raise missing

    @staticmethod
    def _lead(active: ActiveSet) -> Float[Tensor, "A"]:
        """The margin from which an attack leads the previous ones."""
        clean = active.observed_margin(active.problem.clean_logits[active.rows])
        return clean + _LEAD * (active.best_margin - clean).clamp(min=0.0)


@register("attack", "sparse-autoattack")
@dataclasses.dataclass(frozen=True, kw_only=True, repr=False)
class SparseAutoAttack(Ensemble):
    """Sparse-AutoAttack (Zhong, Huang & Liu 2024, section 4.4).

    Sparse-PGD with the unprojected gradient, then with the projected gradient, then Sparse-RS.
    The margin loss that the paper adds against gradient masking is a setting of `spgd`.

    Args:
        members: the attacks in their order.
    """

    members: tuple[SparseAttack, ...] = (
        SparsePGD(),
        SparsePGD(projected=True),
        SparseRS(),
    )


@register("attack", "sigma-autoattack")
@dataclasses.dataclass(frozen=True, kw_only=True, repr=False)
class SigmaAutoAttack(Ensemble):
    """Worst case over this project's strongest attacks, in ascending order of cost.

    Dual averaging on both losses in short runs, with targeted runs for every class, and in long
    runs; support reselection with restarts; Sparse-PGD; and Sparse-RS, which uses no gradient.

    Utterances for which the gradient is of no use are attacked further by `masked_members`: those
    whose gradient is zero or missing, those for which the victim returns probabilities, and those
    for which Sparse-RS raised the margin by more than a tenth further than all gradient attacks.
    Other utterances cost no further pass.

    Args:
        members: the attacks in their order.
        masked_members: further attacks, for utterances whose gradient is of no use.
    """

    members: tuple[SparseAttack, ...] = (
        DualAveraging(all_targets=True),
        DualAveraging(steps=50),
        Reselect(),
        SparsePGD(),
        SparseRS(queries=200),
    )
    masked_members: tuple[SparseAttack, ...] = (
        SurrogateGradient(),
        SmoothedGradient(),
        # Two independent searches: a single one may lose an utterance by chance.
        SparseRS(queries=500),
        SparseRS(queries=2000),
    )

    def search(self, active: ActiveSet) -> None:
        super().search(active)
        assert isinstance(active, WatchedSet)
        active.dismiss(~active.suspected())
        for member in self.masked_members:
            member.search(active)
