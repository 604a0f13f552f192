"""Outcome of an attack on each utterance: the columns of `core.rows` common to all attacks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from sigma_ser.core.budget import Budget
from sigma_ser.core.contracts import AttackResult, Victim
from sigma_ser.core.features import FeatureBatch
from sigma_ser.core.passes import per_channel

from .size import sizes

_SIZES = ("l0", "l0_share", "l2", "linf", "frames_touched", "channels_touched")


def outcome(
    victim: Victim,
    batch: FeatureBatch,
    labels: Int[Tensor, "B"],
    budget: Budget,
    result: AttackResult,
    *,
    seconds: float,
    class_names: Sequence[str],
) -> dict[str, list[Any]]:
    """Compute predictions, success, size and cost of an attack.

    Args:
        victim: the attacked victim.
        batch: the clean features `(B, T, D)`.
        labels: class indices of the true classes `(B,)`.
        budget: the budget of the attack.
        result: the result of the attack.
        seconds: wall time of the whole batch; each utterance gets a share in proportion to its
            forward and backward passes.
        class_names: class names in the order of the logits; further classes are named by their
            index.

    Returns:
        Columns of `core.rows`, each a list of `B` values.
    """
    passes = (result.forwards + result.backwards).double()
    elements = budget.elements(batch.lengths, batch.x.shape[2])
    columns = change(victim, batch, labels, result.x_adv, class_names)
    names = every_name(class_names, int(result.prediction.max()) + 1)
    epsilon = torch.as_tensor(budget.epsilon, dtype=torch.float64)
    bound = epsilon.amax(-1) if epsilon.ndim else epsilon
    return {
        **columns,
        "budget_elements": elements.tolist(),
        "bound": bound.expand(len(batch)).tolist(),
        "prediction_after": [names[i] for i in result.prediction.tolist()],
        "success": result.success.tolist(),
        "steps": result.steps.tolist(),
        "forwards": result.forwards.tolist(),
        "backwards": result.backwards.tolist(),
        "seconds": (seconds * passes / passes.sum()).tolist(),
    }


def change(
    victim: Victim,
    batch: FeatureBatch,
    labels: Int[Tensor, "B"],
    x_adv: Float[Tensor, "B T D"],
    class_names: Sequence[str],
) -> dict[str, list[Any]]:
    """Compute predictions before and after any change of the input, and its size.

    Args:
        victim: the victim.
        batch: the clean features `(B, T, D)`.
        labels: class indices of the true classes `(B,)`.
        x_adv: the changed features `(B, T, D)`.
        class_names: class names in the order of the logits.

    Returns:
        Columns of `core.rows`, each a list of `B` values.
    """
    with torch.inference_mode():
        before = victim(batch.x, batch.lengths).softmax(1)
        after = victim(x_adv, batch.lengths).softmax(1)
    size = sizes(batch, x_adv, per_channel(victim.scale, batch.x))
    names = every_name(class_names, before.shape[1])
    return {
        "prediction_before": [names[i] for i in before.argmax(1).tolist()],
        "prediction_after": [names[i] for i in after.argmax(1).tolist()],
        "confidence_before": before.amax(1).tolist(),
        "confidence_after": after.amax(1).tolist(),
        "correct_before": (before.argmax(1) == labels).tolist(),
        "success": (after.argmax(1) != labels).tolist(),
        **{name: size[name].tolist() for name in _SIZES},
    }


def every_name(class_names: Sequence[str], classes: int) -> list[str]:
    """Class names, and the index of each further class.

    >>> every_name(["angry"], 2)
    ['angry', '1']
    """
    return [*class_names, *(str(index) for index in range(len(class_names), classes))]
