"""The laws of attacks."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from jaxtyping import Bool, Int
from torch import Tensor, nn

from sigma_ser.attacks.factory import make_attack
from sigma_ser.core.audit import audit
from sigma_ser.core.box import box_of
from sigma_ser.core.budget import Budget, Granularity
from sigma_ser.core.contracts import Attack, AttackResult, Victim
from sigma_ser.core.errors import AuditError, BudgetError
from sigma_ser.core.features import FeatureBatch
from sigma_ser.core.passes import per_channel
from sigma_ser.masks.topk import topk_mask

from .examples import companies, example_batch, example_settings, example_victim
from .laws import (
    ConformanceError,
    inputs_unchanged,
    name_of,
    require,
    require_close,
    require_configuration,
)
from .units import check_default_dtype, check_unit_of_logits

_COUNTS = ("steps", "forwards", "backwards")
_LIMITS = frozenset({"box", "max_passes", "max_seconds"})


def check_attack(
    attack: str | Attack,
    *,
    victim: Victim | None = None,
    batch: FeatureBatch | None = None,
) -> None:
    """Check the laws of an attack on one victim.

    Every perturbation stays inside budget, mask and valid frames; claims about success, prediction
    and utterances that were wrong from the start are true; the result for an utterance is the same
    alone, in company, in another order and behind more padding; seeds fix it; the arguments, the
    victim and the global random numbers stay unchanged; logits multiplied by 2^-20 or 2^20 change
    the success rate by at most 5 points; a default type of float64 changes nothing; `repr` shows
    the settings.

    Args:
        attack: a registered name, or an attack; give one with few steps where it is slow.
        victim: the victim that is attacked; by default a small convolutional one.
        batch: features of at least two utterances; by default random ones in the victim's scale.

    Raises:
        ConformanceError: names the first law that is broken.

    >>> from sigma_ser.testing import check_attack
    >>> check_attack("oneshot")
    """
    victim = example_victim() if victim is None else victim
    batch = example_batch(victim) if batch is None else batch
    if isinstance(attack, str):
        attack = make_attack(attack, **example_settings(attack, batch.x.shape[2]))
    with torch.no_grad():
        labels = victim(batch.x, batch.lengths).argmax(1)
    require(isinstance(attack, Attack), attack, "is not callable")
    require_configuration(attack, _LIMITS)
    _check_budgets(attack, victim, batch, labels)
    _check_wrong_from_the_start(attack, victim, batch, labels)
    mask = _check_company(attack, victim, batch, labels)
    _check_seeds(attack, victim, batch, labels)
    budget, _ = _fair(batch)
    check_unit_of_logits(attack, victim, batch, labels, budget=budget, mask=mask)
    check_default_dtype(attack, victim, batch, labels, budget=budget, mask=mask)


def check_attack_run(
    attack: Attack,
    victim: Victim,
    batch: FeatureBatch,
    labels: Int[Tensor, "B"],
    budget: Budget,
    *,
    mask: Bool[Tensor, "B T D"] | None = None,
    target: Int[Tensor, "B"] | None = None,
    seeds: Int[Tensor, "B"] | None = None,
) -> AttackResult:
    """Run an attack once, and check everything that holds for a single result.

    Args:
        attack: an attack; the other arguments are those of its call.

    Returns:
        The result of the attack.

    Raises:
        ConformanceError: names the first law that is broken.
        BudgetError: if the attack refuses the budget.
    """
    given = {"batch": batch, "labels": labels, "victim": victim}
    given |= {"mask": mask, "target": target, "seeds": seeds, "scale": victim.scale}
    with inputs_unchanged(attack, **{name: one for name, one in given.items() if one is not None}):
        try:
            result = attack(victim, batch, labels, budget, mask=mask, target=target, seeds=seeds)
        except AuditError as fault:
            raise _over_budget(attack, fault) from None
    require(isinstance(result, AttackResult), attack, "does not return an AttackResult")
    x_adv = result.x_adv
    require(
        x_adv.dtype == torch.float32 and x_adv.shape == batch.x.shape and not x_adv.requires_grad,
        attack,
        f"does not return detached float32 features {tuple(batch.x.shape)}",
    )
    try:
        audit(batch, x_adv, budget, per_channel(victim.scale, batch.x), mask, box=box_of(victim))
    except AuditError as fault:
        raise _over_budget(attack, fault) from None
    _check_claims(attack, result, victim, batch, labels, target=target)
    return result


def _over_budget(attack: Attack, fault: AuditError) -> ConformanceError:
    # The audit names the utterance and the bound; its advice to report the fault is for users.
    return ConformanceError(f"{name_of(attack)} breaks its budget: {str(fault).split(';')[0]}")


def _check_claims(
    attack: Attack,
    result: AttackResult,
    victim: Victim,
    batch: FeatureBatch,
    labels: Int[Tensor, "B"],
    *,
    target: Int[Tensor, "B"] | None,
) -> None:
    with torch.no_grad():
        clean = victim(batch.x, batch.lengths).argmax(1)
        predicted = victim(result.x_adv, batch.lengths).argmax(1)
    for name in ("success", "prediction", *_COUNTS):
        require(
            getattr(result, name).shape == (len(batch),),
            attack,
            f"does not return {name} for each utterance",
        )
    require(
        torch.equal(result.prediction, predicted),
        attack,
        "claims a false prediction: the victim predicts another class for its features",
    )
    reached = predicted != labels if target is None else predicted == target
    require(
        torch.equal(result.success, reached),
        attack,
        "claims a false success: it contradicts the prediction of the victim",
    )
    wrong = clean != labels
    require(
        torch.equal(result.x_adv[wrong], batch.x[wrong]) and not bool(result.steps[wrong].any()),
        attack,
        "changes utterances that are misclassified from the start, or counts steps for them",
    )
    for name, least in zip(_COUNTS, (0, 1, 0), strict=True):
        require(
            bool((getattr(result, name) >= least).all()),
            attack,
            f"counts fewer than {least} {name} for an utterance",
        )


def _tasks(
    attack: Attack, batch: FeatureBatch
) -> Iterator[tuple[Budget, Bool[Tensor, "B T D"] | None]]:
    """Budgets with no mask, a mask of just the budget's size, a random half, and an empty one."""
    rng = torch.Generator().manual_seed(11)
    scores = torch.rand(batch.x.shape, generator=rng).to(batch.device)
    granularities: tuple[Granularity, ...] = getattr(attack, "granularities", ("element",))
    for granularity in granularities:
        for sparsity, epsilon in ((0.4, 2.0), (0.05, 0.5)):
            budget = Budget(
                sparsity=sparsity, epsilon=epsilon, granularity=granularity, segment_frames=2
            )
            yield budget, None
            yield budget, topk_mask(scores, batch.lengths, budget)
            if granularity != "element":
                break  # whole units differ from elements in their support alone
            yield budget, scores < 0.5
            yield budget, torch.zeros_like(batch.x, dtype=torch.bool)


def _check_budgets(
    attack: Attack, victim: Victim, batch: FeatureBatch, labels: Int[Tensor, "B"]
) -> None:
    ran = False
    with torch.no_grad():
        classes = victim(batch.x, batch.lengths).shape[1]
    other = (labels + 1) % classes
    for number, (budget, mask) in enumerate(_tasks(attack, batch)):
        # Targeted and untargeted in turn; after four masks the turn changes.
        target = other if (number + number // 4) % 2 else None
        try:
            check_attack_run(attack, victim, batch, labels, budget, mask=mask, target=target)
        except BudgetError:
            continue  # an attack that moves the whole mask may refuse a large one
        ran = True
    require(ran, attack, "refuses every budget")
    budget = Budget(sparsity=0.3, epsilon=0.0)
    mask = topk_mask(batch.x, batch.lengths, budget)
    still = check_attack_run(attack, victim, batch, labels, budget, mask=mask)
    require(torch.equal(still.x_adv, batch.x), attack, "changes features at epsilon 0")


def _fair(batch: FeatureBatch) -> tuple[Budget, Bool[Tensor, "B T D"]]:
    """A budget at which attacks succeed on some utterances, and a mask of just that size."""
    budget = Budget(sparsity=0.1, epsilon=0.6)
    return budget, topk_mask(batch.x, batch.lengths, budget)


def _check_wrong_from_the_start(
    attack: Attack, victim: Victim, batch: FeatureBatch, labels: Int[Tensor, "B"]
) -> None:
    budget, mask = _fair(batch)
    with torch.no_grad():
        classes = victim(batch.x, batch.lengths).shape[1]
    mixed = labels.clone()
    mixed[::2] = (mixed[::2] + 1) % classes
    check_attack_run(attack, victim, batch, mixed, budget, mask=mask)


def _check_company(
    attack: Attack, victim: Victim, batch: FeatureBatch, labels: Int[Tensor, "B"]
) -> Bool[Tensor, "B T D"] | None:
    """Returns the mask that the attack needs, or `None` if it can do without one."""
    budget, same_size = _fair(batch)
    mask = None
    try:
        together = check_attack_run(attack, victim, batch, labels, budget)
    except BudgetError:  # an attack that moves the whole mask may refuse to go without one
        mask = same_size
        together = check_attack_run(attack, victim, batch, labels, budget, mask=mask)
    for where, other, rows in companies(batch):
        here = None if mask is None else _rows_of(mask, other, rows)
        found = check_attack_run(attack, victim, other, labels[rows], budget, mask=here)
        law = f"returns another result for an utterance {where}"
        frames = min(other.x.shape[1], batch.x.shape[1])
        valid = batch.valid[rows, :frames, None]
        require(torch.equal(found.success, together.success[rows]), attack, law)
        require_close(
            found.x_adv[:, :frames] * valid,
            together.x_adv[rows, :frames] * valid,
            attack, law, atol=1e-5, rtol=1.3e-6,
        )  # fmt: skip
        for count in _COUNTS:
            require(
                torch.equal(getattr(found, count), getattr(together, count)[rows]),
                attack,
                f"counts other {count} for an utterance {where}",
            )
    return mask


def _rows_of(
    mask: Bool[Tensor, "B T D"], other: FeatureBatch, rows: Int[Tensor, "R"]
) -> Bool[Tensor, "R _ D"]:
    """The mask of these rows, as long as the other batch."""
    frames = other.x.shape[1]
    longer = nn.functional.pad(mask[rows], (0, 0, 0, max(0, frames - mask.shape[1])))
    return longer[:, :frames]


def _check_seeds(
    attack: Attack, victim: Victim, batch: FeatureBatch, labels: Int[Tensor, "B"]
) -> None:
    budget, mask = _fair(batch)
    seeds = torch.arange(len(batch)) + 5
    first, second = (
        check_attack_run(attack, victim, batch, labels, budget, mask=mask, seeds=seeds)
        for _ in range(2)
    )
    require(
        torch.equal(first.x_adv, second.x_adv),
        attack,
        "returns another result when it is called again with the same seeds",
    )
