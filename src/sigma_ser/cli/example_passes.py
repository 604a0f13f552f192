"""The passes of an attack that fails, measured on a small victim."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sigma_ser.core.contracts import Victim


def failed_attack_passes(kind: str, name: str) -> float | None:
    """Forward and backward passes per utterance of an attack with its defaults that fails.

    They are the upper bound of its cost: an attack stops at the first success.

    Args:
        kind: the kind of the member; only an `attack` has passes.
        name: its registered name.

    Returns:
        The mean over two utterances of 20 frames, or `None` where there is no such number: for
        other kinds, and for attacks that need settings.
    """
    if kind != "attack":
        return None
    import torch

    from sigma_ser.attacks.factory import make_attack
    from sigma_ser.core.budget import Budget
    from sigma_ser.core.errors import AttackError, BudgetError
    from sigma_ser.core.features import FeatureBatch
    from sigma_ser.execution.threads import one_thread
    from sigma_ser.masks.topk import topk_mask

    try:
        attack = make_attack(name)
    except AttackError:  # it needs a setting, such as a trained generator
        return None
    noise = torch.Generator().manual_seed(0)
    batch = FeatureBatch(torch.randn(2, 20, 8, generator=noise), torch.tensor([20, 20]))
    victim = _linear_victim()
    budget = Budget(sparsity=0.05, epsilon=1e-6)  # too small to change a prediction
    with one_thread():
        labels = victim(batch.x, batch.lengths).argmax(1)
        try:
            result = attack(victim, batch, labels, budget)
        except BudgetError:  # it changes every element of a mask, so the mask has to be exact
            mask = topk_mask(batch.x, batch.lengths, budget)
            result = attack(victim, batch, labels, budget, mask=mask)
    return float((result.forwards + result.backwards).double().mean())


def _linear_victim() -> Victim:
    import torch

    from sigma_ser.victims.checkpoint import make_head
    from sigma_ser.victims.victim import wrap

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        module = make_head("linear", 8, 4, {})
    return wrap(module.eval(), ["a", "b", "c", "d"])
