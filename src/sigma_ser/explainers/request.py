"""One call of an explainer: victim, utterances, explained output, and bound on memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal, get_args

import torch
from jaxtyping import Float, Int
from torch import Tensor

from sigma_ser.core.contracts import Victim
from sigma_ser.core.errors import ExplainerError, GradientError, ShapeError
from sigma_ser.core.features import FeatureBatch
from sigma_ser.core.passes import CountedVictim, input_gradient
from sigma_ser.core.seeds import UtteranceNoise

Output = Literal["logit", "margin"]
OUTPUTS: tuple[str, ...] = get_args(Output)

# The backward pass holds gradients of about the same size as the tensors that autograd saves.
_BACKWARD_SHARE = 2


def explained_output(
    logits: Float[Tensor, "R C"], labels: Int[Tensor, "R"], output: Output
) -> Float[Tensor, "R"]:
    """Compute the explained output: `z_y` (`logit`), or `z_y - max_{c != y} z_c` (`margin`).

    Args:
        logits: `(R, C)`.
        labels: class index `y` of each row `(R,)`.
        output: `logit` or `margin`.

    Returns:
        `(R,)`.
    """
    own = logits.gather(1, labels[:, None])
    if output == "logit":
        return own[:, 0]
    classes = torch.arange(logits.shape[1], device=logits.device)
    others = logits.masked_fill(classes[None, :] == labels[:, None], -torch.inf)
    return own[:, 0] - others.amax(1)


def check_integers(name: str, value: Tensor, count: int) -> None:
    """Check that an argument holds one integer for each utterance.

    Args:
        name: the argument in the message.
        value: what was given.
        count: number of utterances.

    Raises:
        ShapeError: if it is not a tensor of `count` integers; truth values are not integers, since
            as class indices they would be the classes 0 and 1.
    """
    if not isinstance(value, Tensor):
        raise ShapeError(
            f"{name} must be an integer tensor of shape ({count},), got {type(value).__name__}; "
            "torch.tensor(...) makes one"
        )
    number = not (value.is_floating_point() or value.is_complex() or value.dtype == torch.bool)
    if value.shape != (count,) or not number:
        raise ShapeError(
            f"{name} must be an integer tensor of shape ({count},), "
            f"got {value.dtype} {tuple(value.shape)}"
        )


@dataclass(frozen=True, eq=False)
class Request:
    """One call of an explainer: victim, utterances, explained class and output, memory, seeds.

    `batch.x` is zero on padding. `rows` is the maximum number of rows in one call of the victim.
    A row (such as a noisy copy) belongs to the utterance given by its `owner`, for which passes are
    counted.
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
        """Check the arguments of an explainer, and limit the rows to those that fit into memory.

        Args:
            victim: the classifier that is explained.
            batch: features `(B, T, D)`.
            labels: the explained class `(B,)`, from 0.
            seeds: `(B,)`, one for each utterance.
            output: `logit` or `margin`.
            rows: maximum number of rows in one call of the victim, at least 1.
            memory: maximum memory of one call of the victim in bytes; `None` sets no bound.

        Raises:
            ShapeError: if `labels` or `seeds` do not fit the batch.
            ExplainerError: if one row alone needs more than `memory`.
        """
        for name, value in (("labels", labels), ("seeds", seeds)):
            check_integers(name, value, len(batch))
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
        """The channel means of the victim at every frame, at which attributions are zero."""
        return self.victim.mean.expand(self.batch.x.shape)

    def noise(self) -> UtteranceNoise:
        """Create a source of noise for the utterances; every call returns the same noise."""
        return UtteranceNoise(self.seeds, self.batch.lengths)

    def score(self, x: Float[Tensor, "R T D"], owner: Int[Tensor, "R"]) -> Float[Tensor, "R"]:
        """Compute the explained output of every row, in one call of the victim.

        Args:
            x: rows of features `(R, T, D)`.
            owner: the utterance of each row `(R,)`.

        Returns:
            `(R,)`, with a gradient where `x` requires one.

        Raises:
            ExplainerError: if the logits are not finite, or do not depend on `x` although it
                requires a gradient.
            ShapeError: if a label is not a class index of the victim.
        """
        return explained_output(self._logits(x, owner), self.labels[owner], self.output)

    def values(
        self, x: Float[Tensor, "R T D"], owner: Int[Tensor, "R"] | None = None
    ) -> Float[Tensor, "R"]:
        """Compute the explained output of every row without gradients, `rows` at a time.

        Args:
            x: rows of features `(R, T, D)`.
            owner: the utterance of each row `(R,)`; `None` for one row of each utterance.

        Returns:
            `(R,)`.
        """
        owner = self.all_utterances() if owner is None else owner
        return explained_output(self.logits(x, owner), self.labels[owner], self.output)

    def logits(self, x: Float[Tensor, "R T D"], owner: Int[Tensor, "R"]) -> Float[Tensor, "R C"]:
        """Compute the logits of every row without gradients, `rows` at a time.

        Args:
            x: rows of features `(R, T, D)`.
            owner: the utterance of each row `(R,)`.

        Returns:
            `(R, C)`.
        """
        with torch.no_grad():
            parts = [
                self._logits(part, part_owner)
                for part, part_owner in zip(
                    torch.split(x, self.rows), torch.split(owner, self.rows), strict=True
                )
            ]
        return torch.cat(parts)

    def _logits(self, x: Float[Tensor, "R T D"], owner: Int[Tensor, "R"]) -> Float[Tensor, "R C"]:
        logits = self.victim(x, self.batch.lengths[owner], owner)
        if not bool(torch.isfinite(logits).all()):
            raise ExplainerError(
                "the victim returned NaN or infinite logits, which cannot be explained; "
                "check its weights and the features"
            )
        if x.requires_grad and torch.is_grad_enabled() and not logits.requires_grad:
            raise _no_gradient()
        label = int(self.labels[owner].max())
        if label >= logits.shape[1]:
            raise ShapeError(
                f"label {label} is not a class index of a victim with {logits.shape[1]} classes"
            )
        return logits

    def gradient(
        self,
        x: Float[Tensor, "R T D"],
        owner: Int[Tensor, "R"] | None = None,
        *,
        prepare: Callable[[Tensor, Tensor], None] | None = None,
    ) -> Float[Tensor, "R T D"]:
        """Compute the gradient of the explained output of every row, `rows` at a time.

        Args:
            x: rows of features `(R, T, D)`.
            owner: the utterance of each row `(R,)`; `None` for one row of each utterance.
            prepare: called with the outputs `(R,)` and the rows before each backward pass.

        Returns:
            `(R, T, D)`, detached.

        Raises:
            ExplainerError: if the output does not depend on the features.
        """
        owner = self.all_utterances() if owner is None else owner
        parts: list[Tensor] = []
        for rows, part_owner in zip(
            torch.split(x, self.rows), torch.split(owner, self.rows), strict=True
        ):
            part = rows.detach().requires_grad_()
            score = self.score(part, part_owner)
            if prepare is not None:
                prepare(score, part)
            parts.append(self._gradient(score, part))
        return parts[0] if len(parts) == 1 else torch.cat(parts)

    @staticmethod
    def _gradient(score: Float[Tensor, "R"], x: Float[Tensor, "R T D"]) -> Float[Tensor, "R T D"]:
        """The gradient of the rows; an error where the output does not depend on them."""
        try:
            return input_gradient(score.sum(), x)
        except GradientError as fault:
            raise _no_gradient() from fault

    def all_utterances(self) -> Int[Tensor, "B"]:
        """Return the indices of all utterances: the owner of one row for each of them."""
        return torch.arange(len(self.batch), device=self.batch.device)

    def blocks(self, samples: int) -> Iterator[tuple[Int[Tensor, "G"], int]]:
        """Yield groups of utterances with a number of samples, whose product is at most `rows`.

        Groups are consecutive; the numbers of samples of a group sum to `samples`.
        """
        for group in torch.split(self.all_utterances(), self.rows):
            at_once = self.rows // len(group)
            for first in range(0, samples, at_once):
                yield group, min(at_once, samples - first)

    def _row_bytes(self) -> int:
        """Memory of a forward and backward pass of the longest row, in bytes."""
        longest = self.batch.lengths.argmax()[None]
        row = self.batch.x[longest].requires_grad_()
        held: dict[int, int] = {}

        def pack(tensor: Tensor) -> Tensor:
            # Weights, transposed or not, exist once for any number of rows.
            weight = tensor if tensor._base is None else tensor._base
            if not isinstance(weight, torch.nn.Parameter):
                held[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
            return tensor

        def unpack(tensor: Any) -> Any:
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, unpack):
            # Not the score, which is an error for victims without gradients.
            self.victim(row, self.batch.lengths[longest], longest)
        return _BACKWARD_SHARE * (sum(held.values()) + row.nbytes)


def _no_gradient() -> ExplainerError:
    return ExplainerError(
        "no gradient reaches the features through this victim; "
        "use an explainer without gradients such as occlusion"
    )
