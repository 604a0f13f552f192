"""Attacks by name: `attack` runs one, `make_attack` builds one."""

from __future__ import annotations

from typing import Any

from jaxtyping import Bool, Int
from torch import Tensor

from sigma_ser.core import registry
from sigma_ser.core.budget import Budget
from sigma_ser.core.contracts import Attack, AttackResult, Victim
from sigma_ser.core.errors import AttackError
from sigma_ser.core.features import FeatureBatch

from .verification import verified

# The default of arguments that a call needs: an attack that is named alone gets a clear error.
_REQUIRED: Any = None


def attack(
    name: str | Attack,
    victim: Victim = _REQUIRED,
    batch: FeatureBatch = _REQUIRED,
    labels: Int[Tensor, "B"] = _REQUIRED,
    budget: Budget = _REQUIRED,
    *,
    mask: Bool[Tensor, "B T D"] | None = None,
    target: Int[Tensor, "B"] | None = None,
    seeds: Int[Tensor, "B"] | None = None,
    **settings: Any,
) -> AttackResult:
    """Attack a batch of utterances under a budget, and verify the result.

    The attack works on copies; its perturbed features are checked against the budget and classified
    once more; this forward pass determines `prediction` and `success` (see
    `sigma_ser.attacks.verification.verified`). An attack from `make_attack` that is
    called directly is not verified in this way.

    Args:
        name: one of `registry.names("attack")`, `library:name` of another library (foolbox,
            torchattacks, adv-lib, art), or an attack from `make_attack`.
        victim: the classifier that is attacked.
        batch: clean features `(B, T, D)`.
        labels: the true classes, indices `(B,)`.
        budget: the number of elements that may change, and by how much.
        mask: bool `(B, T, D)`, the elements that may change; `None` lets the attack choose its own
            support.
        target: the classes to reach, indices `(B,)`; `None` attacks towards any wrong class.
        seeds: `(B,)` seeds of stochastic attacks; `None` derives them from the ids.
        **settings: hyperparameters of an attack that is given by name.

    Returns:
        The perturbed features with success, prediction and cost of each utterance.

    Raises:
        UnknownNameError: if no attack has this name; the message lists near matches.
        AttackError: if a setting, label, mask, target or seed is not valid, or if the attack
            changes its inputs or reports a success that the victim does not confirm.
        AuditError: if the perturbation exceeds the budget.
        BudgetError: if the budget cannot be met.

    >>> import torch, sigma_ser as ss
    >>> class MeanPool(torch.nn.Linear):
    ...     def forward(self, x, lengths):
    ...         return super().forward(x.sum(1) / lengths[:, None])
    >>> victim = ss.wrap(MeanPool(8, 3).eval())
    >>> batch = ss.FeatureBatch(torch.zeros(2, 5, 8), torch.tensor([5, 5]))
    >>> labels = victim(batch.x, batch.lengths).argmax(1)
    >>> result = ss.attack("pgd0", victim, batch, labels, ss.Budget(sparsity=0.1), steps=5)
    >>> result.x_adv.shape
    torch.Size([2, 5, 8])
    """
    missing = [
        argument
        for argument, value in (
            ("victim", victim), ("batch", batch), ("labels", labels), ("budget", budget)
        )
        if value is _REQUIRED
    ]  # fmt: skip
    if missing:
        raise AttackError(
            f"attack(name, victim, batch, labels, budget) was called without {', '.join(missing)}; "
            "to build an attack without running it, use make_attack(name)"
        )
    if isinstance(name, str):
        made = make_attack(name, **settings)
    elif settings:
        raise AttackError(
            f"settings ({', '.join(settings)}) belong to an attack that is given by name; "
            "pass those of an attack object to make_attack"
        )
    else:
        made = name
    return verified(made, victim, batch, labels, budget, mask=mask, target=target, seeds=seeds)


def make_attack(name: str, **settings: Any) -> Attack:
    """Build an attack by name.

    Args:
        name: one of `registry.names("attack")`, or `library:name` of another library (foolbox,
            torchattacks, adv-lib, art).
        settings: its hyperparameters; a missing one has the default of the attack's paper.

    Returns:
        An attack, to be called as `(victim, batch, labels, budget)`.

    Raises:
        UnknownNameError: if no attack has this name; the message lists near matches.
        AttackError: if a setting is unknown or out of its range.

    >>> from sigma_ser.attacks.factory import make_attack
    >>> make_attack("random", draws=3)
    RandomCorner(draws=3)
    """
    if not isinstance(name, str):
        raise AttackError(
            f"make_attack needs the name of an attack, got {type(name).__name__}; "
            "an attack object can be called directly"
        )
    if ":" in name:
        from .external.libraries import external_attack

        return external_attack(name, **settings)
    made: Attack = registry.make("attack", name, settings)
    return made
