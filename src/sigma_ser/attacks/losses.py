"""Attack losses, one value per utterance; attacks maximise them.

Every loss takes `logits (B, C)`, the true `labels (B,)` and `target (B,)`, or `None` for an
untargeted attack, and returns `(B,)`. The logits of an utterance are `z`, its label is `y`.

Attacks evaluate a loss on logits that are multiplied by `spread_factor`, so that a victim
and the same victim with logits in another unit are attacked alike.
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


# Clean logits are brought to a spread in [2^(e - 1), 2^e), that of most trained heads. With a
# smaller one the cross-entropy follows the mean of all other logits, with a much larger one its
# gradient underflows to zero.
_SPREAD_EXPONENT = 3


def spread_factor(clean_logits: Float[Tensor, "B C"]) -> Float[Tensor, "B"]:
    """The power of two that brings the spread of each utterance's clean logits into [4, 8).

    The spread is the largest minus the smallest logit. A power of two rounds nothing: a loss that
    is proportional to the logits has the same normalised gradient, bit for bit, with and without
    the factor. Logits without a spread keep their unit.

    >>> import torch
    >>> spread_factor(torch.tensor([[9.0, 0.0, 1.0], [9e6, 0.0, 1.0], [2.0, 2.0, 2.0]]))
    tensor([5.0000e-01, 4.7684e-07, 1.0000e+00])
    """
    clean = clean_logits.detach().double()
    spread = clean.amax(1) - clean.amin(1)
    exponent = (_SPREAD_EXPONENT - torch.frexp(spread).exponent).clamp(-126, 126)
    factor = torch.ldexp(torch.ones_like(spread), exponent)
    return torch.where(spread > 0, factor, 1.0).float()


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
    `-(z_y - z_t) / (z_1 - (z_3 + z_4) / 2)`, where `z_1 >= z_2 >= ...`. The ratio is not defined
    for fewer than three classes (four with a target), and with `z_2` in place of the missing logit
    it is constant. For these victims this loss is the `margin`.
    """
    if logits.shape[1] < (3 if target is None else 4):
        return margin(logits, labels, target)
    leaders = logits.topk(3 if target is None else 4, dim=1).values
    true = logits.gather(1, labels[:, None])[:, 0]
    if target is None:
        spread = leaders[:, 0] - leaders[:, 2]
        return (largest_other(logits, labels) - true) / (spread + 1e-12)
    wanted = logits.gather(1, target[:, None])[:, 0]
    spread = leaders[:, 0] - 0.5 * (leaders[:, 2] + leaders[:, 3])
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
