"""The base class of all attacks: check the inputs, classify, search, audit the result."""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from typing import ClassVar

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from sigma_ser.core import registry
from sigma_ser.core.audit import audit
from sigma_ser.core.budget import GRANULARITIES, Budget
from sigma_ser.core.contracts import AttackResult, Victim
from sigma_ser.core.errors import AttackError, BudgetError, GradientError, VictimError
from sigma_ser.core.features import FeatureBatch
from sigma_ser.core.passes import CountedVictim
from sigma_ser.core.progress import stage
from sigma_ser.core.seeds import UtteranceNoise, utterance_seeds

from .active_set import ActiveSet
from .inputs import autograd_usable
from .limits import Limits, ObservedRange, SearchEnded, joint_range
from .losses import LOSSES
from .problem import Problem, check_integers, check_logits, check_mask, checked_classes


class _CheckedVictim(CountedVictim):
    """A victim whose gradients are checked.

    A missing or non-finite gradient stops a search, and the victim would wrongly appear robust.

    Attributes:
        zero_gradient: `(B,)`, on the CPU, whether there were gradients and all of them were zero.
    """

    def __init__(self, victim: Victim, batch: FeatureBatch) -> None:
        super().__init__(victim, batch)
        self._ids = batch.ids
        self._evaluated = torch.zeros(len(batch), dtype=torch.bool)
        self._steep = self._evaluated.clone()

    @property
    def zero_gradient(self) -> Bool[Tensor, "B"]:
        return self._evaluated & ~self._steep

    def __call__(
        self, x: Tensor, lengths: Tensor, owner: Tensor | None = None
    ) -> Float[Tensor, "R C"]:
        logits = super().__call__(x, lengths, owner)
        if x.requires_grad and not logits.requires_grad:
            raise GradientError(
                "no gradient reaches the features through this victim (it detaches them, or runs "
                "under no_grad); use an attack that needs no gradient, such as sparse-rs or "
                "sigma-autoattack"
            )
        if x.requires_grad:
            owner = torch.arange(len(x)) if owner is None else owner.cpu()
            x.register_hook(  # type: ignore[no-untyped-call]
                lambda gradient: self._check_gradient(gradient, owner)
            )
        return logits

    def _check_gradient(self, gradient: Float[Tensor, "R T D"], owner: Int[Tensor, "R"]) -> None:
        # After the first gradient of a plain victim this takes no further time.
        if not bool(self._steep[owner].all()):
            self._evaluated[owner] = True
            self._steep[owner] |= gradient.flatten(1).any(1).cpu()
        # The sum is not finite if any element is not, and costs less than a test of every element.
        if bool(torch.isfinite(gradient.sum())):
            return
        bad = (~torch.isfinite(gradient).flatten(1).all(1)).cpu()
        if bool(bad.any()):
            raise VictimError(
                "the victim's gradient is not finite for utterance "
                f"{self._ids[int(owner[bad][0])]!r}, so gradient attacks cannot be run; look for a "
                "square root, norm or logarithm of 0, or use an attack without gradients, such as "
                "sparse-rs"
            )


class AttackInterrupted(KeyboardInterrupt):
    """A keyboard interrupt during an attack; `result` is the audited best result so far."""

    def __init__(self, result: AttackResult) -> None:
        super().__init__("the attack was interrupted; .result holds the best result so far")
        self.result = result


@dataclasses.dataclass(frozen=True, kw_only=True, repr=False)
class SparseAttack(ABC):
    """Base class of all attacks under a budget; a subclass implements `search`.

    Args:
        box: range of each channel that the adversarial features must stay in; `None`: unbounded.
        max_passes: maximum number of forward and backward passes per utterance after its first
            classification, at least 1; `None`: no limit.
        max_seconds: maximum time for a batch in seconds, above 0; `None`: no limit. With a limit
            the results depend on the machine.

    Utterances that are misclassified on the clean input are returned unchanged with `steps = 0`.
    The others are searched, and leave the batch at their first success. The result for an
    utterance is the successful perturbation, or otherwise the one with the largest margin. Every
    result is audited.

    Raises:
        AttackError: if labels, mask, target or seeds do not fit the batch.
        BudgetError: if the budget cannot be met.
        VictimError: if the victim returns logits that are not finite or not `(B, C)`, or has no
            gradient for an attack that needs one.
        AttackInterrupted: on a keyboard interrupt; holds the best result so far.
    """

    box: ObservedRange | None = None
    max_passes: int | None = None
    max_seconds: float | None = None

    def __post_init__(self) -> None:
        Limits(self.max_passes, self.max_seconds)
        if self.box is not None and not isinstance(self.box, ObservedRange):
            raise AttackError(
                f"box must be ObservedRange(low, high) or ObservedRange.of(batch), got {self.box!r}"
            )
        loss = getattr(self, "loss", None)
        if loss is not None and loss not in LOSSES:
            raise AttackError(f"loss must be one of {', '.join(LOSSES)}, got {loss!r}")

    granularities: ClassVar[tuple[str, ...]] = GRANULARITIES

    def active_set(self, problem: Problem, rows: Int[Tensor, "A"]) -> ActiveSet:
        """The active set of the search; overridden by attacks that rank results differently."""
        return ActiveSet(problem, rows)

    @abstractmethod
    def search(self, active: ActiveSet) -> None:
        """Search for perturbations; each one passed to `active` is a candidate for the result."""

    def check(self, active: ActiveSet) -> None:
        """Reject problems that the attack does not support.

        Raises:
            AttackError: if the attack does not support the budget's granularity.
        """
        granularity = active.budget.granularity
        if granularity not in self.granularities:
            raise AttackError(
                f"{type(self).__name__} selects single elements and cannot take whole "
                f"{granularity}s; use dual-averaging, reselect or spgd instead"
            )

    def __call__(
        self,
        victim: Victim,
        batch: FeatureBatch,
        labels: Int[Tensor, "B"],
        budget: Budget,
        *,
        mask: Bool[Tensor, "B T D"] | None = None,
        target: Int[Tensor, "B"] | None = None,
        seeds: Int[Tensor, "B"] | None = None,
    ) -> AttackResult:
        """Attack a batch.

        Args:
            victim: the attacked model, in eval mode.
            batch: clean features `(B, T, D)`.
            labels: true class indices `(B,)`.
            budget: the number of elements that may change, and by how much.
            mask: bool `(B, T, D)`, the elements that may change; the attack selects its `k` among
                them. `None`: all valid elements.
            target: target class indices `(B,)`; `None`: untargeted.
            seeds: random seeds `(B,)`; `None` derives them from the ids and the attack's name.
        """
        return self.run(victim, batch, labels, budget, mask=mask, target=target, seeds=seeds)

    def run(
        self,
        victim: Victim,
        batch: FeatureBatch,
        labels: Int[Tensor, "B"],
        budget: Budget,
        *,
        mask: Bool[Tensor, "B T D"] | None,
        target: Int[Tensor, "B"] | None,
        seeds: Int[Tensor, "B"] | None,
        minimise: bool = False,
    ) -> AttackResult:
        """As `__call__`; with `minimise`, minimum-norm attacks search for the fewest units."""
        with autograd_usable():
            given = self._problem(
                victim, batch, labels, budget,
                mask=mask, target=target, seeds=seeds, minimise=minimise,
            )  # fmt: skip
            # The search works on copies, which are compared with the originals afterwards.
            active = self.active_set(given.copy(), _attackable(given))
            with stage(registry.name_of("attack", type(self)), len(active)) as active.advance:
                try:
                    if len(active):
                        self.check(active)
                        self.search(active)
                except SearchEnded:
                    pass
                except KeyboardInterrupt as interrupt:
                    raise AttackInterrupted(_audited(active, given)) from interrupt
            return _audited(active, given)

    def _problem(
        self,
        victim: Victim,
        batch: FeatureBatch,
        labels: Int[Tensor, "B"],
        budget: Budget,
        *,
        mask: Bool[Tensor, "B T D"] | None,
        target: Int[Tensor, "B"] | None,
        seeds: Int[Tensor, "B"] | None,
        minimise: bool,
    ) -> Problem:
        """Check the inputs, and classify the clean features."""
        counted = _CheckedVictim(victim, batch)
        if not len(batch):
            raise AttackError("the batch is empty; pass at least one utterance")
        if not isinstance(budget, Budget):
            raise BudgetError(
                f"the budget must be ss.Budget(sparsity=..., epsilon=...), got {budget!r}"
            )
        check_mask(mask, batch)
        if seeds is None:
            seeds = utterance_seeds(batch.ids, type(self).__name__)
        else:
            check_integers("seeds", seeds, batch)
        with torch.no_grad():
            clean_logits = counted(batch.x, batch.lengths)
        check_logits(clean_logits, batch)
        classes = clean_logits.shape[1]
        labels = checked_classes("labels", labels, classes, batch)
        if target is not None:
            target = checked_classes("target", target, classes, batch)
            same = (target == labels).nonzero()
            if len(same):
                raise AttackError(
                    "target must differ from the label of each utterance; it equals it for "
                    f"utterance {batch.ids[int(same[0])]!r}"
                )
        return Problem(
            counted, batch, labels, target, budget,
            None if mask is None else mask.to(batch.device),
            UtteranceNoise(seeds, batch.lengths), clean_logits,
            joint_range(self.box, counted.box, counted.scale),
            Limits(self.max_passes, self.max_seconds), minimise, type(self).__name__,
        )  # fmt: skip

    def __repr__(self) -> str:
        """The class name with all settings; limits are shown only if they are set."""
        shown = [
            f"{field.name}={getattr(self, field.name)!r}"
            for field in dataclasses.fields(self)
            if field.name not in _LIMITS or getattr(self, field.name) is not None
        ]
        return f"{type(self).__name__}({', '.join(shown)})"


_LIMITS = frozenset(field.name for field in dataclasses.fields(SparseAttack))


def check_positive(attack: SparseAttack, *names: str, above: int = 0) -> None:
    """Raise `AttackError` unless these settings are greater than `above`."""
    for name in names:
        value = getattr(attack, name)
        if not value > above:
            title = registry.name_of("attack", type(attack))
            raise AttackError(f"{name} of the attack {title!r} must be above {above}, got {value}")


def _audited(active: ActiveSet, given: Problem) -> AttackResult:
    """The result of a search, audited with inputs that the search never held."""
    given.require_unchanged(active.problem)
    result = active.result()
    victim = given.victim
    audit(given.batch, result.x_adv, given.budget, victim.scale, given.mask, box=victim.box)
    assert isinstance(victim, _CheckedVictim)
    return dataclasses.replace(result, zero_gradient=victim.zero_gradient.to(given.batch.device))


def _attackable(problem: Problem) -> Int[Tensor, "A"]:
    """Utterances that are classified correctly and have at least one element that may change."""
    batch, budget = problem.batch, problem.budget
    correct = problem.clean_logits.argmax(1) == problem.labels
    movable = budget.unit_allowed(problem.mask, batch.lengths, batch.x.shape).any(1)
    bounded = budget.bound(problem.victim.scale).amax(-1).flatten() > 0
    return (correct & movable & bounded).nonzero()[:, 0]
