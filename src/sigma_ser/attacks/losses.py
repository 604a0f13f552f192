"""Attack losses, one value per utterance; attacks maximise them.

Every loss takes `logits (B, C)`, the true `labels (B,)` and `target (B,)`, or `None` for an
untargeted attack, and returns `(B,)`. The logits of an utterance are `z`, its label is `y`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional

Loss = Callable[
    [Float[Tensor, "B C"], Int[Tensor, "B"], Int[Tensor, "B"] | None], Float[Tensor, "B"]
]
LossName = Literal["margin", "cross-entropy", "dlr", "cw-hinge"]


def largest_other(logits: Float[Tensor, "B C"], classes: Int[Tensor, "B"]) -> Float[Tensor, "B"]:
    """The largest logit among all classes except `classes`."""
    return logits.scatter(1, classes[:, None], -torch.inf).amax(1)


def margin(
    logits: Float[Tensor, "B C"], labels: Int[Tensor, "B"], target: Int[Tensor, "B"] | None = None
) -> Float[Tensor, "B"]:
    """`max_{c != y} z_c - z_y`; targeted `z_t - max_{c != t} z_c`. Positive on success.

    >>> import torch
    >>> margin(torch.tensor([[3.0, 1.0, 2.0]]), torch.tensor([0]))
    tensor([-1.])
    """
    if target is None:
        return largest_other(logits, labels) - logits.gather(1, labels[:, None])[:, 0]
    return logits.gather(1, target[:, None])[:, 0] - largest_other(logits, target)


def cross_entropy(
    logits: Float[Tensor, "B C"], labels: Int[Tensor, "B"], target: Int[Tensor, "B"] | None = None
) -> Float[Tensor, "B"]:
    """Cross-entropy of the true class; targeted, the negative cross-entropy of the target."""
    if target is None:
        return functional.cross_entropy(logits, labels, reduction="none")
    return -functional.cross_entropy(logits, target, reduction="none")


def difference_of_logits_ratio(
    logits: Float[Tensor, "B C"], labels: Int[Tensor, "B"], target: Int[Tensor, "B"] | None = None
) -> Float[Tensor, "B"]:
    """Difference of logits ratio, invariant to shift and scale (Croce & Hein 2020, eq. 6, 7).

    Untargeted `-(z_y - max_{c != y} z_c) / (z_1 - z_3)`, targeted
    `-(z_y - z_t) / (z_1 - (z_3 + z_4) / 2)`, where `z_1 >= z_2 >= ...`. With fewer than three
    (four) classes, which the paper excludes, the smallest logit replaces the missing ones.
    """
    leaders = logits.topk(min(4, logits.shape[1]), dim=1).values
    last = leaders.shape[1] - 1
    true = logits.gather(1, labels[:, None])[:, 0]
    if target is None:
        spread = leaders[:, 0] - leaders[:, min(2, last)]
        return (largest_other(logits, labels) - true) / (spread + 1e-12)
    wanted = logits.gather(1, target[:, None])[:, 0]
    spread = leaders[:, 0] - 0.5 * (leaders[:, min(2, last)] + leaders[:, last])
    return (wanted - true) / (spread + 1e-12)


def cw_hinge(
    logits: Float[Tensor, "B C"], labels: Int[Tensor, "B"], target: Int[Tensor, "B"] | None = None
) -> Float[Tensor, "B"]:
    """`min(margin, 0)`: constant once the attack succeeds (Carlini & Wagner 2017, `f_6`)."""
    return margin(logits, labels, target).clamp(max=0.0)


LOSSES: dict[str, Loss] = {
    "margin": margin,
    "cross-entropy": cross_entropy,
    "dlr": difference_of_logits_ratio,
    "cw-hinge": cw_hinge,
}
