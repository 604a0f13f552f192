"""Choice of the explained class: the predicted class, the true class, or the target."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

from sigma_ser.core.contracts import Victim
from sigma_ser.core.errors import ExplainerError
from sigma_ser.core.features import FeatureBatch

from .request import check_integers


def clean_logits(victim: Victim, batch: FeatureBatch, *, rows: int = 64) -> Float[Tensor, "B C"]:
    """Compute logits `(B, C)` without gradients.

    Args:
        victim: the classifier.
        batch: features `(B, T, D)`.
        rows: maximum number of utterances in one call of the victim.
    """
    x = batch.x.detach().masked_fill(~batch.valid[:, :, None], 0.0)
    with torch.no_grad():
        return torch.cat(
            [
                victim(part, lengths)
                for part, lengths in zip(
                    torch.split(x, rows), torch.split(batch.lengths, rows), strict=True
                )
            ]
        )


def predicted(victim: Victim, batch: FeatureBatch) -> Int[Tensor, "B"]:
    """Predict the class of each utterance `(B,)`, the usual choice of the explained class.

    Args:
        victim: the classifier.
        batch: features `(B, T, D)`.
    """
    return clean_logits(victim, batch).argmax(1)


def runner_up(victim: Victim, batch: FeatureBatch, labels: Int[Tensor, "B"]) -> Int[Tensor, "B"]:
    """Find the class with the largest logit besides `labels`, the usual target of an attack.

    Args:
        victim: the classifier.
        batch: features `(B, T, D)`.
        labels: class indices `(B,)` to exclude.

    Returns:
        Class indices `(B,)`.

    Raises:
        ShapeError: if `labels` are not integers `(B,)`.
    """
    check_integers("labels", labels, len(batch))
    logits = clean_logits(victim, batch)
    return logits.scatter(1, labels.to(logits.device)[:, None], -torch.inf).argmax(1)


def explained_class(
    choice: str,
    victim: Victim,
    batch: FeatureBatch,
    *,
    true: Int[Tensor, "B"] | None = None,
    target: Int[Tensor, "B"] | None = None,
) -> Int[Tensor, "B"]:
    """Return the class to explain by the name of the choice in studies and on the command line.

    Args:
        choice: `predicted`, `true` or `target`.
        victim: the classifier; called for `predicted` only.
        batch: features `(B, T, D)`.
        true: class indices of the true classes `(B,)`, for `true`.
        target: class indices of the target classes `(B,)`, for `target`.

    Returns:
        Class indices `(B,)`.

    Raises:
        ExplainerError: if the choice is unknown, or its classes are not given.
    """
    if choice == "predicted":
        return predicted(victim, batch)
    given = {"true": true, "target": target}
    if choice not in given:
        raise ExplainerError(
            f"the explained class must be predicted, true or target, got {choice!r}"
        )
    classes = given[choice]
    if classes is None:
        raise ExplainerError(f"to explain the {choice} class, give it as {choice}=")
    return classes
