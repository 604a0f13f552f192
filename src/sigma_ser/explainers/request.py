"""What an explainer is asked: which output of which victim, for whom, in what memory."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal, get_args

import torch
from jaxtyping import Float, Int
from torch import Tensor

from sigma_ser.core.contracts import Victim
from sigma_ser.core.errors import ExplainerError, ShapeError
from sigma_ser.core.features import FeatureBatch
from sigma_ser.core.passes import CountedVictim
from sigma_ser.core.seeds import UtteranceNoise

Output = Literal["logit", "margin"]
OUTPUTS: tuple[str, ...] = get_args(Output)

# Beside what autograd keeps for a row, its backward pass holds gradients of about the same size.
_BACKWARD_SHARE = 2


def explained_output(
    logits: Float[Tensor, "R C"], labels: Int[Tensor, "R"], output: Output
) -> Float[Tensor, "R"]:
    """The number that is explained: `z_y` (`logit`), or `z_y - max_{c != y} z_c` (`margin`)."""
    own = logits.gather(1, labels[:, None])
    if output == "logit":
        return own[:, 0]
    classes = torch.arange(logits.shape[1], device=logits.device)
    others = logits.masked_fill(classes[None, :] == labels[:, None], -torch.inf)
    return own[:, 0] - others.amax(1)


@dataclass(frozen=True, eq=False)
class Request:
    """One call of an explainer: victim, utterances, explained class and output, memory, seeds.

    `batch.x` is zero on padding. At most `rows` rows lie in the victim at once. Rows belong to
    utterances by their `owner`, so that passes are booked to those who asked for them.
    """

    victim: CountedVictim
    batch: FeatureBatch
    labels: Int[Tensor, "B"]
    output: Output
    rows: int
    seeds: Int[Tensor, "B"]

    @classmethod
    def create(
        cls,
        victim: Victim,
        batch: FeatureBatch,
        labels: Int[Tensor, "B"],
        seeds: Int[Tensor, "B"],
        *,
        output: Output,
        rows: int,
        memory: int | None = None,
    ) -> Request:
        """Check the arguments and fix how many rows fit into `memory` bytes.

        Raises:
            ShapeError: if `labels` or `seeds` do not fit the batch.
            ExplainerError: if one row alone needs more than `memory`.
        """
        for name, value in (("labels", labels), ("seeds", seeds)):
            if not isinstance(value, Tensor):
                raise ShapeError(
                    f"{name} must be integers (B,) in a torch tensor, got a {type(value).__name__};"
                    " torch.tensor(...) makes one"
                )
            if value.shape != (len(batch),) or value.dtype.is_floating_point:
                raise ShapeError(
                    f"{name} must be integers of shape ({len(batch)},), "
                    f"got {value.dtype} {tuple(value.shape)}"
                )
        if int(labels.min()) < 0:
            raise ShapeError("labels must be class indices from 0 up")
        x = batch.x.detach().masked_fill(~batch.valid[:, :, None], 0.0)
        request = cls(
            CountedVictim(victim, batch),
            FeatureBatch(x, batch.lengths, batch.ids),
            labels.to(batch.device, torch.long),
            output,
            rows,
            seeds,
        )
        if memory is None:
            return request
        fitting = memory // request._row_bytes()
        if fitting < 1:
            raise ExplainerError(
                f"one utterance of {batch.x.shape[1]} frames needs {request._row_bytes()} bytes, "
                f"more than memory={memory}; allow more memory or shorten the utterances"
            )
        object.__setattr__(request, "rows", min(rows, int(fitting)))
        return request

    @property
    def baseline(self) -> Float[Tensor, "B T D"]:
        """The channel means of the victim at every frame: where attributions are zero."""
        return self.victim.mean.expand(self.batch.x.shape)

    def noise(self) -> UtteranceNoise:
        """A fresh source of noise, the same at every call."""
        return UtteranceNoise(self.seeds, self.batch.lengths)

    def score(self, x: Float[Tensor, "R T D"], owner: Int[Tensor, "R"]) -> Float[Tensor, "R"]:
        """The explained output of every row, in one call of the victim.

        Raises:
            ExplainerError: if the victim gives NaN or infinity, or no gradient where one is needed.
            ShapeError: if a label is no class of the victim.
        """
        logits = self.victim(x, self.batch.lengths[owner], owner)
        if not bool(torch.isfinite(logits).all()):
            raise ExplainerError(
                "the victim gives NaN or infinite logits, so there is nothing to explain; "
                "check its weights and its features"
            )
        if x.requires_grad and torch.is_grad_enabled() and not logits.requires_grad:
            raise ExplainerError(
                "no gradient reaches the features through this victim; "
                "use an explainer without gradients such as occlusion"
            )
        labels = self.labels[owner]
        if int(labels.max()) >= logits.shape[1]:
            raise ShapeError(
                f"label {int(labels.max())} was asked of a victim with {logits.shape[1]} classes"
            )
        return explained_output(logits, labels, self.output)

    def values(
        self, x: Float[Tensor, "R T D"], owner: Int[Tensor, "R"] | None = None
    ) -> Float[Tensor, "R"]:
        """The explained output of every row without gradients, `rows` at a time."""
        owner = self.all_utterances() if owner is None else owner
        with torch.no_grad():
            parts = [
                self.score(part, whose)
                for part, whose in zip(
                    torch.split(x, self.rows), torch.split(owner, self.rows), strict=True
                )
            ]
        return torch.cat(parts)

    def gradient(
        self, x: Float[Tensor, "R T D"], owner: Int[Tensor, "R"] | None = None
    ) -> Float[Tensor, "R T D"]:
        """The gradient of every row's explained output, `rows` at a time.

        Raises:
            ExplainerError: if no gradient reaches the features.
        """
        owner = self.all_utterances() if owner is None else owner
        parts: list[Tensor] = []
        for rows, whose in zip(
            torch.split(x, self.rows), torch.split(owner, self.rows), strict=True
        ):
            part = rows.detach().requires_grad_()
            parts += torch.autograd.grad(self.score(part, whose).sum(), part)
        return parts[0] if len(parts) == 1 else torch.cat(parts)

    def all_utterances(self) -> Int[Tensor, "B"]:
        """All utterances, as an owner of rows."""
        return torch.arange(len(self.batch), device=self.batch.device)

    def blocks(self, samples: int) -> Iterator[tuple[Int[Tensor, "G"], int]]:
        """Groups of utterances with a number of samples of each, never more than `rows` rows.

        The groups come one after the other; the numbers of one group add up to `samples`.
        """
        for group in torch.split(self.all_utterances(), self.rows):
            at_once = self.rows // len(group)
            for first in range(0, samples, at_once):
                yield group, min(at_once, samples - first)

    def _row_bytes(self) -> int:
        """What one row of this batch takes in the victim, forward and backward."""
        longest = self.batch.lengths.argmax()[None]
        row = self.batch.x[longest].requires_grad_()
        held: dict[int, int] = {}

        def note(tensor: Tensor) -> Tensor:
            # Weights, also transposed ones, are there once, however many rows there are.
            weight = tensor if tensor._base is None else tensor._base
            if not isinstance(weight, torch.nn.Parameter):
                held[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
            return tensor

        def give(tensor: Any) -> Any:
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(note, give):
            # Not the score: explainers without gradients are measured, too.
            self.victim(row, self.batch.lengths[longest], longest)
        return _BACKWARD_SHARE * (sum(held.values()) + row.nbytes)
