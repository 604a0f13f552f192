"""The frame that every attack shares: check, classify, search, audit."""

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
from .task import Task, not_finite


class _Attacked(CountedVictim):
    """A victim that is asked for gradients, and must be able to give them.

    An attack that follows NaN goes nowhere, and the victim would seem robust.
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
                "under no_grad); use an attack without gradients, such as sparse-rs"
            )
        if x.requires_grad:
            owner = torch.arange(len(x)) if owner is None else owner.cpu()
            x.register_hook(  # type: ignore[no-untyped-call]
                lambda gradient: self._check_gradient(gradient, owner)
            )
        return logits

    def _check_gradient(self, gradient: Float[Tensor, "R T D"], owner: Int[Tensor, "R"]) -> None:
        # One sum is not finite where any element is not, and cheaper than a look at each.
        if bool(torch.isfinite(gradient.sum())):
            return
        bad = (~torch.isfinite(gradient).flatten(1).all(1)).cpu()
        if bool(bad.any()):
            raise VictimError(
                "the victim's gradient is not finite for utterance "
                f"{self._ids[int(owner[bad][0])]!r}, so attacks cannot follow it; look for a root, "
                "norm or logarithm at 0, or use one without gradients, such as sparse-rs"
            )


class AttackInterrupted(KeyboardInterrupt):
    """The attack was interrupted from the keyboard; `result` holds the best so far, audited."""

    def __init__(self, result: AttackResult) -> None:
        super().__init__("the attack was interrupted; .result holds what was found until then")
        self.result = result


@dataclasses.dataclass(frozen=True, kw_only=True, repr=False)
class SparseAttack(ABC):
    """An attack under a budget; a member of the family writes `search`, its loop, and no more.

    Args:
        box: range of each channel that the features must not leave; `None`: no such range.
        max_passes: most forward and backward passes of an utterance after its first
            classification; `None`: as many as the attack makes.
        max_seconds: most seconds for a batch; results then depend on the machine.

    Calling it: utterances that are wrong from the start come back unchanged with `steps = 0`; the
    others are searched, and leave the batch once they are fooled. The result for an utterance is
    the fooling perturbation, or else the one with the largest margin. Every result is audited.

    Raises:
        AttackError: if labels, mask, target or seeds do not fit the batch.
        BudgetError: if the budget cannot be met.
        VictimError: if the victim gives logits that are not finite or not `(B, C)`, or no gradient
            to an attack that needs it.
        AttackInterrupted: from the keyboard, with what was found.
    """

    box: ObservedRange | None = None
    max_passes: int | None = None
    max_seconds: float | None = None

    def __post_init__(self) -> None:
        Limits(self.max_passes, self.max_seconds)
        if self.box is not None and not isinstance(self.box, ObservedRange):
            raise AttackError(
                f"box comes as ObservedRange(low, high) or ObservedRange.of(batch), "
                f"not as {self.box!r}"
            )
        loss = getattr(self, "loss", None)
        if loss is not None and loss not in LOSSES:
            raise AttackError(f"loss must be one of {', '.join(LOSSES)}, got {loss!r}")

    granularities: ClassVar[tuple[str, ...]] = GRANULARITIES

    def active_set(self, task: Task, rows: Int[Tensor, "A"]) -> ActiveSet:
        """What the search works on; attacks that weigh results otherwise make their own."""
        return ActiveSet(task, rows)

    @abstractmethod
    def search(self, active: ActiveSet) -> None:
        """Look for perturbations; everything that `active` is shown counts as a result."""

    def check(self, active: ActiveSet) -> None:
        """Refuse tasks that the attack cannot do.

        Raises:
            AttackError: here, if it cannot choose units of the budget's granularity.
        """
        granularity = active.budget.granularity
        if granularity not in self.granularities:
            raise AttackError(
                f"{type(self).__name__} picks single elements and cannot take whole "
                f"{granularity}s; use dual-averaging, reselect or spgd for those"
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
            victim: what is attacked, in eval mode.
            batch: clean features.
            labels: the true classes.
            budget: how many elements may change, and by how much.
            mask: the elements that may change; the attack picks its `k` inside.
            target: the classes to reach; `None`: any class but the true one.
            seeds: one for each utterance; `None` derives them from the ids and the attack's name.
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
        """As calling it; `minimise` asks attacks that can for the fewest units."""
        counted = _Attacked(victim, batch)
        if not len(batch):
            raise AttackError("the batch holds no utterance; give at least one")
        if not isinstance(budget, Budget):
            raise BudgetError(
                f"the budget comes as ss.Budget(sparsity=..., epsilon=...), not as {budget!r}"
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
                raise AttackError("target is the true class of an utterance; choose another class")
        task = Task(
            counted, batch, labels, target, budget,
            None if mask is None else mask.to(batch.device),
            UtteranceNoise(seeds, batch.lengths), clean_logits,
            self.box, Limits(self.max_passes, self.max_seconds), minimise,
        )  # fmt: skip
        active = self.active_set(task, _attackable(task))
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
        task, result = active.task, active.result()
        audit(task.batch, result.x_adv, task.budget, task.victim.scale, task.mask)
        return result

    def __repr__(self) -> str:
        """The name with all settings; limits only where they are set."""
        shown = [
            f"{field.name}={getattr(self, field.name)!r}"
            for field in dataclasses.fields(self)
            if field.name not in _LIMITS or getattr(self, field.name) is not None
        ]
        return f"{type(self).__name__}({', '.join(shown)})"


_LIMITS = frozenset(field.name for field in dataclasses.fields(SparseAttack))


def check_positive(attack: SparseAttack, *names: str, above: int = 0) -> None:
    """Raise :class:`AttackError` unless these settings lie above 0, or above another number."""
    for name in names:
        value = getattr(attack, name)
        if not value > above:
            raise AttackError(f"{type(attack).__name__}: {name} must be above {above}, got {value}")


def _attackable(task: Task) -> Int[Tensor, "A"]:
    """Utterances that are classified correctly and have something that may change."""
    batch, budget = task.batch, task.budget
    correct = task.clean_logits.argmax(1) == task.labels
    movable = budget.unit_allowed(task.mask, batch.lengths, batch.x.shape).any(1)
    bounded = budget.bound(task.victim.scale).amax(-1).flatten() > 0
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
            f"{tuple(mask.shape)}; ss.topk_mask makes one of a saliency map"
        )


def _check_logits(logits: Tensor, batch: FeatureBatch) -> None:
    if logits.ndim != 2 or len(logits) != len(batch) or logits.shape[1] < 2:
        raise VictimError(
            f"the victim must return logits ({len(batch)}, C) with at least 2 classes, "
            f"but returned {tuple(logits.shape)}"
        )
    if not bool(torch.isfinite(logits).all()):
        raise not_finite(batch, logits, torch.arange(len(batch)))


def check_integers(what: str, values: Tensor, batch: FeatureBatch) -> None:
    """Raise :class:`AttackError` unless these are integers, one for each utterance."""
    if not isinstance(values, Tensor):
        raise AttackError(
            f"{what} must be integers ({len(batch)},) in a torch tensor, got a "
            f"{type(values).__name__}; torch.tensor(...) makes one"
        )
    if values.shape != (len(batch),) or values.is_floating_point() or values.dtype == torch.bool:
        raise AttackError(
            f"{what} must be integers of shape ({len(batch)},), "
            f"got {values.dtype} {tuple(values.shape)}"
        )


def _checked_classes(
    what: str, classes: Tensor, number: int, batch: FeatureBatch
) -> Int[Tensor, "B"]:
    check_integers(f"{what} (class indices)", classes, batch)
    if bool(((classes < 0) | (classes >= number)).any()):
        raise AttackError(f"{what} must lie between 0 and {number - 1}, the victim's classes")
    return classes.to(batch.device, torch.long)
