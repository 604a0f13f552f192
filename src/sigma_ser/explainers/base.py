"""Base class of explainers: checks arguments, counts passes, clears padding, checks maps."""

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
    """Base class of explainers; the `repr` of an explainer is its configuration.

    Args:
        output: the output that is explained: the `logit` of the given class, or its `margin` over
            the best other class.
        rows: maximum number of rows (utterances x samples) in one call of the victim, at least 1.
        memory: maximum memory of one call of the victim in bytes, estimated from a forward pass of
            one row; `None` sets no bound besides `rows`.

    Raises:
        ExplainerError: if a setting is out of its range.
    """

    kind: ClassVar[MapKind] = "attribution"
    control: ClassVar[bool] = False
    """Whether the map is independent of the victim, and so a control."""

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
        """Check that settings, given as `name=(value, minimum)`, are not below their minimum.

        Raises:
            ExplainerError: if a setting is below its minimum or NaN.
        """
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
            The map, float32 `(B, T, D)`, signed, zero on padding, with its passes and, for methods
            that define it, its completeness gap.

        Raises:
            ExplainerError: if the explainer cannot explain the victim, or its map is not finite.
            ShapeError: if `labels` or `seeds` do not fit.
        """
        if not isinstance(batch, FeatureBatch):
            raise ShapeError(
                f"features come as ss.FeatureBatch(x, lengths), not as {type(batch).__name__}"
            )
        with torch.inference_mode(False), torch.enable_grad():
            return self._explained(victim, batch, labels, seeds)

    def _explained(
        self,
        victim: Victim,
        batch: FeatureBatch,
        labels: Int[Tensor, "B"],
        seeds: Int[Tensor, "B"] | None,
    ) -> Explanation:
        if seeds is None:
            seeds = utterance_seeds(batch.ids, "explain", type(self).__name__)
        if not len(batch):
            nothing = torch.zeros(0, dtype=torch.long)
            return Explanation(torch.zeros_like(batch.x), nothing, nothing.clone())
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
                f"{type(self).__name__} returned a map with NaN or infinity; "
                "check the victim's weights and the features"
            )
        return Explanation(
            saliency, request.victim.forwards, request.victim.backwards, completeness
        )

    @abc.abstractmethod
    def attribute(
        self, request: Request
    ) -> tuple[Float[Tensor, "B T D"], Float[Tensor, "B"] | None]:
        """Compute the map `(B, T, D)` and the completeness gap `(B,)`.

        The gap is the sum of the map minus the difference of outputs that it should equal; `None`
        for methods without a completeness axiom.
        """


def gap(
    request: Request, saliency: Float[Tensor, "B T D"], baseline: Float[Tensor, "B T D"]
) -> Float[Tensor, "B"]:
    """Completeness gap `sum A - (f(x) - f(baseline))`, 0 for a complete attribution.

    Args:
        request: the call that the map belongs to; two forward passes are booked to it.
        saliency: the map `(B, T, D)`.
        baseline: the features `(B, T, D)` at which the attribution is zero.

    Returns:
        `(B,)` in units of the explained output.
    """
    valid = request.batch.valid[:, :, None]
    total = saliency.detach().double().masked_fill(~valid, 0.0).sum((1, 2))
    difference = request.values(request.batch.x) - request.values(baseline)
    return (total - difference.double()).float()
