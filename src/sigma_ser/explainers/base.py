"""What all explainers share: arguments checked, passes counted, padding zero, maps finite."""

from __future__ import annotations

import abc
from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float, Int
from torch import Tensor

from sigma_ser.core.contracts import Explanation, MapKind, Victim
from sigma_ser.core.errors import ExplainerError, ShapeError
from sigma_ser.core.features import FeatureBatch
from sigma_ser.core.seeds import utterance_seeds

from .request import OUTPUTS, Output, Request


@dataclass(frozen=True, kw_only=True)
class BaseExplainer(abc.ABC):
    """An explainer whose `repr` is its configuration.

    Args:
        output: what is explained: the `logit` of the class given, or its `margin` over the best
            other class.
        rows: how many rows (utterances x samples) may lie in the victim at once, at least 1.
        memory: the same as a number of bytes, measured on one row with one forward pass;
            `None` sets no bound but `rows`.

    Raises:
        ExplainerError: if a setting is out of its range.
    """

    kind: ClassVar[MapKind] = "attribution"
    control: ClassVar[bool] = False
    """Whether the map knows nothing of the victim, and so is the same for all."""

    output: Output = "logit"
    rows: int = 64
    memory: int | None = None

    def __post_init__(self) -> None:
        if self.output not in OUTPUTS:
            raise ExplainerError(f"output must be one of {', '.join(OUTPUTS)}, got {self.output!r}")
        self.check(rows=(self.rows, 1))
        if self.memory is not None:
            self.check(memory=(self.memory, 1))

    @staticmethod
    def check(**least: tuple[int | float, int | float]) -> None:
        """Raise where a setting is below the least value that makes sense."""
        for name, (value, bound) in least.items():
            if not value >= bound:
                raise ExplainerError(f"{name} must be at least {bound}, got {value}")

    def __call__(
        self,
        victim: Victim,
        batch: FeatureBatch,
        labels: Int[Tensor, "B"],
        *,
        seeds: Int[Tensor, "B"] | None = None,
    ) -> Explanation:
        """Explain class `labels` of each utterance.

        Args:
            victim: the classifier that is explained.
            batch: features `(B, T, D)`.
            labels: class indices `(B,)`.
            seeds: `(B,)`, one for each utterance; `None` derives them from the ids.

        Returns:
            The map, float32 `(B, T, D)`, signed, zero on padding, and what it cost.

        Raises:
            ExplainerError: if the explainer is wrong for the victim, or its map is not finite.
            ShapeError: if `labels` or `seeds` do not fit.
        """
        if not isinstance(batch, FeatureBatch):
            raise ShapeError(
                f"features come as ss.FeatureBatch(x, lengths), not as {type(batch).__name__}"
            )
        if seeds is None:
            seeds = utterance_seeds(batch.ids, "explain", type(self).__name__)
        if not len(batch):
            nothing = torch.zeros(0, dtype=torch.long)
            return Explanation(torch.zeros_like(batch.x), nothing, nothing.clone())
        with torch.inference_mode(False), torch.enable_grad():
            request = Request.create(
                victim,
                batch,
                labels,
                seeds,
                output=self.output,
                rows=self.rows,
                memory=self.memory,
            )
            saliency, completeness = self.attribute(request)
        saliency = saliency.detach().float().masked_fill(~batch.valid[:, :, None], 0.0)
        if not bool(torch.isfinite(saliency).all()):
            raise ExplainerError(
                f"{type(self).__name__} gave a map with NaN or infinity; "
                "check the victim's weights and the features"
            )
        return Explanation(
            saliency, request.victim.forwards, request.victim.backwards, completeness
        )

    @abc.abstractmethod
    def attribute(
        self, request: Request
    ) -> tuple[Float[Tensor, "B T D"], Float[Tensor, "B"] | None]:
        """The map, and how far its sum is from the difference it should explain, if it should."""


def gap(
    request: Request, saliency: Float[Tensor, "B T D"], baseline: Float[Tensor, "B T D"]
) -> Float[Tensor, "B"]:
    """`sum A - (f(x) - f(baseline))` for each utterance: 0 for a complete attribution."""
    valid = request.batch.valid[:, :, None]
    total = saliency.detach().double().masked_fill(~valid, 0.0).sum((1, 2))
    difference = request.values(request.batch.x) - request.values(baseline)
    return (total - difference.double()).float()
