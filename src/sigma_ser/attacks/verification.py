"""Results of attacks that are decided outside the attack, on inputs that it never held."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from sigma_ser.core.audit import audit
from sigma_ser.core.box import box_of
from sigma_ser.core.budget import Budget
from sigma_ser.core.contracts import Attack, AttackResult, Victim
from sigma_ser.core.errors import AttackError
from sigma_ser.core.features import FeatureBatch
from sigma_ser.core.passes import per_channel

from .inputs import autograd_usable, checksums, copied, same, weights_of
from .problem import changed_in_place, check_logits

# Differences between two passes, in units of the range of the logits. Other rows in the same
# batch change the order of sums, and so the last bits.
_ROUNDING = 1e-4
_RANDOM = 1e-5


def verified(
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
    """Run an attack on copies of its inputs, audit its features, and classify them once more.

    The attack is not trusted: it receives copies, its perturbed features are audited against
    inputs that it never held, and success and prediction are those of one forward pass over its
    features, which is not counted. For a victim with random logits, success means that more than
    half of 10 further passes misclassify the utterance; for one whose logits depend on the rest of
    the batch, each utterance is classified alone. `check_gradients` names such victims.

    Args:
        attack: the attack; the other arguments are those of its call.

    Returns:
        The result of the attack, with success and prediction decided here.

    Raises:
        AttackError: names the attack if it changes its inputs or the weights of the victim in
            place, claims a prediction or success that the victim contradicts, or does not return
            an `AttackResult`.
        AuditError: if the perturbation exceeds the budget.
    """
    given = {
        "clean features or lengths": batch, "labels": labels, "budget": budget, "mask": mask,
        "target classes": target, "seeds": seeds,
    }  # fmt: skip
    kept = {name: copied(value) for name, value in given.items()}
    passed = {name: copied(value) for name, value in given.items()}
    weights = checksums(weights_of(victim))
    result = attack(
        victim,
        passed["clean features or lengths"],
        passed["labels"],
        passed["budget"],
        mask=passed["mask"],
        target=passed["target classes"],
        seeds=passed["seeds"],
    )
    name = type(attack).__name__
    for what, value in kept.items():
        if not (same(value, passed[what]) and same(value, given[what])):
            raise changed_in_place(name, what)
    if checksums(weights_of(victim)) != weights:
        raise changed_in_place(name, "weights of the victim")
    _check_fields(name, result, batch)
    x_adv = copied(result.x_adv)
    audit(batch, x_adv, budget, per_channel(victim.scale, batch.x), mask, box=box_of(victim))
    attacked = FeatureBatch(x_adv, batch.lengths, batch.ids)
    labels = labels.to(batch.device, torch.long)
    target = None if target is None else target.to(batch.device, torch.long)
    with autograd_usable(), torch.no_grad():
        prediction = _decided(name, victim, result, attacked, labels, target)
    success = prediction != labels if target is None else prediction == target
    return dataclasses.replace(result, x_adv=x_adv, prediction=prediction, success=success)


def _check_fields(name: str, result: object, batch: FeatureBatch) -> None:
    if not isinstance(result, AttackResult):
        raise AttackError(
            f"{name} returned a {type(result).__name__}; an attack must return an AttackResult"
        )
    for field in ("success", "prediction", "steps", "forwards", "backwards"):
        value = getattr(result, field)
        if not isinstance(value, Tensor) or value.shape != (len(batch),):
            raise AttackError(
                f"{name} must return {field} as a tensor of shape ({len(batch)},), one value for "
                "each utterance"
            )


def _decided(  # noqa: PLR0917 - a call of an attack and its result
    name: str,
    victim: Victim,
    result: AttackResult,
    attacked: FeatureBatch,
    labels: Int[Tensor, "B"],
    target: Int[Tensor, "B"] | None,
) -> Int[Tensor, "B"]:
    """The predictions of a fresh pass.

    Raises:
        AttackError: if the attack claims something else, and the victim is deterministic.
    """
    logits = victim(attacked.x, attacked.lengths)
    check_logits(logits, attacked)
    prediction = logits.argmax(1)
    false = _contradicted(logits, result, labels, target)
    if not bool(false.any()):
        return prediction
    again = victim(attacked.x, attacked.lengths)
    if _differ(logits, again, _RANDOM):
        return majority(victim, attacked, labels, target)
    alone = torch.cat([victim(one.x, one.lengths) for one in _each_alone(attacked)])
    if _differ(logits, alone, _ROUNDING):
        return alone.argmax(1)
    row = int(false.nonzero()[0])
    raise AttackError(
        f"{name} claims class {int(result.prediction[row])} and success={bool(result.success[row])}"
        f" for utterance {attacked.ids[row]!r}, but the victim predicts class "
        f"{int(prediction[row])} for its features; this is a fault of the attack, please report it"
    )


def majority(
    victim: Victim,
    batch: FeatureBatch,
    labels: Int[Tensor, "B"],
    target: Int[Tensor, "B"] | None = None,
    passes: int = 10,
) -> Int[Tensor, "B"]:
    """Predictions of a victim with random logits, by the majority of several passes.

    Args:
        victim: a victim whose logits differ between two passes over the same features.
        batch: features `(B, T, D)`.
        labels: true class indices `(B,)`.
        target: target class indices `(B,)`; `None`: untargeted.
        passes: number of passes, at least 1.

    Returns:
        `(B,)`: untargeted, a class other than the label if more than half of the passes predict
        one, and otherwise the label; targeted, the target if more than half predict it, and
        otherwise another class.
    """
    with torch.no_grad():
        logits = [victim(batch.x, batch.lengths) for _ in range(passes)]
    classes = logits[0].shape[1]
    votes = sum(nn.functional.one_hot(one.argmax(1), classes) for one in logits)
    assert isinstance(votes, Tensor)
    goal = labels if target is None else target
    hits = votes.gather(1, goal[:, None])[:, 0]
    other = votes.scatter(1, goal[:, None], -1).argmax(1)
    chosen = hits * 2 >= passes if target is None else hits * 2 > passes
    return torch.where(chosen, goal, other)


def _contradicted(
    logits: Float[Tensor, "B C"],
    result: AttackResult,
    labels: Int[Tensor, "B"],
    target: Int[Tensor, "B"] | None,
) -> Bool[Tensor, "B"]:
    """Claims that differ from the logits by more than rounding."""
    claimed = result.prediction.to(labels.device, torch.long)
    reached = claimed != labels if target is None else claimed == target
    exists = (claimed >= 0) & (claimed < logits.shape[1])
    value = logits.gather(1, claimed.clamp(0, logits.shape[1] - 1)[:, None])[:, 0]
    higher = logits.amax(1) - value > _tolerance(logits, _ROUNDING)
    return ~exists | higher | (result.success.to(labels.device).bool() != reached)


def _differ(first: Float[Tensor, "B C"], second: Float[Tensor, "B C"], share: float) -> bool:
    return bool(((first - second).abs().amax(1) > _tolerance(first, share)).any())


def _tolerance(logits: Float[Tensor, "B C"], share: float) -> Float[Tensor, "B"]:
    """A share of the range of the logits, and at least what float32 can resolve."""
    span = logits.amax(1) - logits.amin(1)
    return share * span + 8 * torch.finfo(torch.float32).eps * logits.abs().amax(1)


def _each_alone(batch: FeatureBatch) -> Iterator[FeatureBatch]:
    for row in range(len(batch)):
        yield batch.select(torch.tensor([row], device=batch.device))
