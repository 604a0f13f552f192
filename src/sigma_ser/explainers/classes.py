"""Which class is explained: the one predicted, the one that is true, or an attack's target."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

from sigma_ser.core.contracts import Victim
from sigma_ser.core.errors import ExplainerError
from sigma_ser.core.features import FeatureBatch


def clean_logits(victim: Victim, batch: FeatureBatch, *, rows: int = 64) -> Float[Tensor, "B C"]:
    """Logits without gradients, at most `rows` utterances at once."""
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
    """The class that the victim gives each utterance: what an explanation usually explains."""
    return clean_logits(victim, batch).argmax(1)


def runner_up(victim: Victim, batch: FeatureBatch, labels: Int[Tensor, "B"]) -> Int[Tensor, "B"]:
    """The strongest class beside `labels`: the usual target of an attack."""
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
    """The class to explain, by the word that a study or a command line uses.

    Args:
        choice: `predicted`, `true` or `target`.
        victim: the classifier; asked for `predicted` only.
        batch: features `(B, T, D)`.
        true: the labels of the corpus, for `true`.
        target: the classes that an attack aims at, for `target`.

    Raises:
        ExplainerError: if the choice is unknown, or its classes were not given.
    """
    if choice == "predicted":
        return predicted(victim, batch)
    given = {"true": true, "target": target}
    if choice not in given:
        raise ExplainerError(f"explain one of predicted, true, target, not {choice!r}")
    classes = given[choice]
    if classes is None:
        raise ExplainerError(f"to explain the {choice} class, give it as {choice}=")
    return classes
