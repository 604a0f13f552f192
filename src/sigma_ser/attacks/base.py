"""The base class of all attacks: check the inputs, classify, search, audit the result."""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from typing import ClassVar

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from sigma_ser.core.audit import audit
from sigma_ser.core.budget import GRANULARITIES, Budget
from sigma_ser.core.contracts import AttackResult, Victim
from sigma_ser.core.errors import AttackError, BudgetError, VictimError
from sigma_ser.core.features import FeatureBatch
from sigma_ser.core.passes import CountedVictim
from sigma_ser.core.seeds import UtteranceNoise, utterance_seeds

from .active_set import ActiveSet
from .limits import Limits, ObservedRange, SearchEnded
from .losses import LOSSES
from .problem import Problem, not_finite


class _CheckedVictim(CountedVictim):
    """A victim whose gradients are checked.

    A missing or non-finite gradient stops a search, and the victim would wrongly appear robust.
    """

    def __init__(self, victim: Victim, batch: FeatureBatch) -> None:
        super().__init__(victim, batch)
        self._ids = batch.ids

    def __call__(
        self, x: Tensor, lengths: Tensor, owner: Tensor | None = None
    ) -> Float[Tensor, "R C"]:
        logits = super().__call__(x, lengths, owner)
        if x.requires_grad and not logits.requires_grad:
            raise VictimError(
                "no gradient reaches the features through this victim (it detaches them, or runs "
                "under no_grad); use a gradient-free attack such as sparse-rs"
            )
        if x.requires_grad:
            owner = torch.arange(len(x)) if owner is None else owner.cpu()
            x.register_hook(  # type: ignore[no-untyped-call]
                lambda gradient: self._check_gradient(gradient, owner)
            )
        return logits

    def _check_gradient(self, gradient: Float[Tensor, "R T D"], owner: Int[Tensor, "R"]) -> None:
        # The sum is not finite if any element is not, and costs less than a test of every element.
        if bool(torch.isfinite(gradient.sum())):
            return
        bad = (~torch.isfinite(gradient).flatten(1).all(1)).cpu()
        if bool(bad.any()):
            raise VictimError(
                "the victim's gradient is not finite for utterance "
                f"{self._ids[int(owner[bad][0])]!r}, so gradient attacks cannot be run; look for a "
                "square root, norm or logarithm of 0, or use a gradient-free attack such as "
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
        counted = _CheckedVictim(victim, batch)
        if not len(batch):
            raise AttackError("the batch is empty; pass at least one utterance")
        if not isinstance(budget, Budget):
            raise BudgetError(
                f"the budget must be ss.Budget(sparsity=..., epsilon=...), got {budget!r}"
            )
        _check_mask(mask, batch)
        if seeds is None:
            seeds = utterance_seeds(batch.ids, type(self).__name__)
        else:
            check_integers("seeds", seeds, batch)
        with torch.no_grad():
            clean_logits = counted(batch.x, batch.lengths)
        _check_logits(clean_logits, batch)
        classes = clean_logits.shape[1]
        labels = _checked_classes("labels", labels, classes, batch)
        if target is not None:
            target = _checked_classes("target", target, classes, batch)
            if bool((target == labels).any()):
                raise AttackError(
                    "target is the true class of an utterance; choose a different class"
                )
        problem = Problem(
            counted, batch, labels, target, budget,
            None if mask is None else mask.to(batch.device),
            UtteranceNoise(seeds, batch.lengths), clean_logits,
            self.box, Limits(self.max_passes, self.max_seconds), minimise,
        )  # fmt: skip
        active = self.active_set(problem, _attackable(problem))
        try:
            if len(active):
                self.check(active)
                self.search(active)
        except SearchEnded:
            pass
        except KeyboardInterrupt as interrupt:
            raise AttackInterrupted(self._audited(active)) from interrupt
        return self._audited(active)

    def _audited(self, active: ActiveSet) -> AttackResult:
        problem, result = active.problem, active.result()
        audit(problem.batch, result.x_adv, problem.budget, problem.victim.scale, problem.mask)
        return result

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
    """Raise :class:`AttackError` unless these settings are greater than `above`."""
    for name in names:
        value = getattr(attack, name)
        if not value > above:
            raise AttackError(f"{type(attack).__name__}: {name} must be above {above}, got {value}")


def _attackable(problem: Problem) -> Int[Tensor, "A"]:
    """Utterances that are classified correctly and have at least one element that may change."""
    batch, budget = problem.batch, problem.budget
    correct = problem.clean_logits.argmax(1) == problem.labels
    movable = budget.unit_allowed(problem.mask, batch.lengths, batch.x.shape).any(1)
    bounded = budget.bound(problem.victim.scale).amax(-1).flatten() > 0
    return (correct & movable & bounded).nonzero()[:, 0]


def _check_mask(mask: Tensor | None, batch: FeatureBatch) -> None:
    if mask is None:
        return
    if not isinstance(mask, Tensor):
        raise AttackError(
            f"a mask must be a bool torch tensor {tuple(batch.x.shape)} like the features, "
            f"got a {type(mask).__name__}"
        )
    if mask.dtype != torch.bool or mask.shape != batch.x.shape:
        raise AttackError(
            f"a mask must be bool {tuple(batch.x.shape)} like the features, got {mask.dtype} "
            f"{tuple(mask.shape)}; ss.topk_mask(saliency, ...) returns one"
        )


def _check_logits(logits: Tensor, batch: FeatureBatch) -> None:
    if logits.ndim != 2 or len(logits) != len(batch) or logits.shape[1] < 2:
        raise VictimError(
            f"the victim must return logits of shape ({len(batch)}, C) with at least 2 classes, "
            f"got {tuple(logits.shape)}"
        )
    if not bool(torch.isfinite(logits).all()):
        raise not_finite(batch, logits, torch.arange(len(batch)))


def check_integers(what: str, values: Tensor, batch: FeatureBatch) -> None:
    """Raise :class:`AttackError` unless `values` is an integer tensor of shape `(B,)`."""
    if not isinstance(values, Tensor):
        raise AttackError(
            f"{what} must be an integer tensor of shape ({len(batch)},), got a "
            f"{type(values).__name__}; convert it with torch.tensor(...)"
        )
    if values.shape != (len(batch),) or values.is_floating_point() or values.dtype == torch.bool:
        raise AttackError(
            f"{what} must be an integer tensor of shape ({len(batch)},), "
            f"got {values.dtype} {tuple(values.shape)}"
        )


def _checked_classes(
    what: str, classes: Tensor, number: int, batch: FeatureBatch
) -> Int[Tensor, "B"]:
    check_integers(f"{what} (class indices)", classes, batch)
    if bool(((classes < 0) | (classes >= number)).any()):
        raise AttackError(
            f"{what} must lie between 0 and {number - 1}: the victim has {number} classes"
        )
    return classes.to(batch.device, torch.long)
