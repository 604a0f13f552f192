"""Outcome of an attack on each utterance: the columns of `core.rows` common to all attacks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Int
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
    with torch.inference_mode():
        before = victim(batch.x, batch.lengths).softmax(1)
        after = victim(result.x_adv, batch.lengths).softmax(1)
    passes = (result.forwards + result.backwards).double()
    size = sizes(batch, result.x_adv, per_channel(victim.scale, batch.x))
    classes = before.shape[1]
    names = [*class_names, *(str(i) for i in range(len(class_names), classes))]
    elements = budget.elements(batch.lengths, batch.x.shape[2])
    return {
        "budget_elements": elements.tolist(),
        "prediction_before": [names[i] for i in before.argmax(1).tolist()],
        "prediction_after": [names[i] for i in result.prediction.tolist()],
        "confidence_before": before.amax(1).tolist(),
        "confidence_after": after.amax(1).tolist(),
        "correct_before": (before.argmax(1) == labels).tolist(),
        "success": result.success.tolist(),
        "steps": result.steps.tolist(),
        "forwards": result.forwards.tolist(),
        "backwards": result.backwards.tolist(),
        "seconds": (seconds * passes / passes.sum()).tolist(),
        **{name: size[name].tolist() for name in _SIZES},
    }
