"""The interfaces between packages: victim, explainer, attack, and the result of an attack."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, Protocol, runtime_checkable

from jaxtyping import Bool, Float, Int
from torch import Tensor

from .budget import Budget
from .features import FeatureBatch
from .html_repr import html_table


@runtime_checkable
class Victim(Protocol):
    """An emotion classifier on features: `(x (B, T, D), lengths (B,)) -> logits (B, C)`.

    A victim may also have `box: tuple[float, float] | None`, the smallest and the largest value of
    its features. Attacks then stay in `[max(low, x - b), min(high, x + b)]` with the bound `b` of
    their budget, and the audit checks it.
    """

    @property
    def class_names(self) -> tuple[str, ...]:
        """Class names, in the order of the logits."""

    @property
    def mean(self) -> Tensor:
        """Channel means `(D,)` of the training features (or one number): the baseline."""

    @property
    def scale(self) -> Tensor:
        """Channel standard deviations `(D,)` (or one number): the unit of epsilon."""

    def __call__(self, x: Float[Tensor, "B T D"], lengths: Int[Tensor, "B"]) -> Tensor:
        """Logits `(B, C)`."""


@dataclass(frozen=True, eq=False)
class Explanation:
    """A saliency map with what it cost.

    `saliency` is `(B, T, D)`, signed, float32, in feature units, zero on padding; `forwards` and
    `backwards` are `(B,)`; `completeness` is `(B,)`, the gap between the sum of the map and the
    difference that it should explain, where the method defines one.
    """

    saliency: Float[Tensor, "B T D"]
    forwards: Int[Tensor, "B"]
    backwards: Int[Tensor, "B"]
    completeness: Float[Tensor, "B"] | None = None


# The kind of a map decides how its elements are ranked for a mask: a gradient is a slope, so that a
# change of `epsilon * scale` gains |A| * scale; an attribution is already a share of the output.
MapKind = Literal["gradient", "attribution"]


@runtime_checkable
class Explainer(Protocol):
    """Computes a saliency map for the class `labels` of each utterance."""

    @property
    def kind(self) -> MapKind:
        """Whether elements of the map are ranked by `|A| * scale` or by `|A|`."""

    def __call__(
        self,
        victim: Victim,
        batch: FeatureBatch,
        labels: Int[Tensor, "B"],
        *,
        seeds: Int[Tensor, "B"] | None = None,
    ) -> Explanation:
        """Explain; `seeds` fix the noise of stochastic explainers, `None` derives them."""


@dataclass(frozen=True, eq=False, repr=False)
class AttackResult:
    """The result of an attack for every utterance, successful or not.

    `x_adv` is `(B, T, D)`; `success`, `prediction`, `steps`, `forwards` and `backwards` are
    `(B,)`. `success` is `prediction != label` for untargeted and `prediction == target` for
    targeted attacks. An utterance that was misclassified from the start is returned unchanged
    with `steps = 0`.

    `zero_gradient` `(B,)` marks utterances for which every gradient that the attack evaluated was
    exactly zero: it had no direction to follow, so its failure says nothing about the victim.
    `None`: the attack does not record it.
    """

    x_adv: Float[Tensor, "B T D"]
    success: Bool[Tensor, "B"]
    prediction: Int[Tensor, "B"]
    steps: Int[Tensor, "B"]
    forwards: Int[Tensor, "B"]
    backwards: Int[Tensor, "B"]
    zero_gradient: Bool[Tensor, "B"] | None = field(default=None, kw_only=True)

    def features(self, batch: FeatureBatch) -> FeatureBatch:
        """The perturbed features as a batch, with the lengths and ids of the attacked `batch`."""
        return FeatureBatch(self.x_adv, batch.lengths, batch.ids)

    def _summary(self) -> dict[str, object]:
        """Counts over the batch, for people."""
        # Utterances that were misclassified from the start took no step.
        attacked = self.steps > 0
        passes = (self.forwards + self.backwards)[attacked].double()
        return {
            "utterances": len(self.success),
            "attacked (classified correctly before)": int(attacked.sum()),
            "misclassified by the attack": int((self.success & attacked).sum()),
            "passes for each attacked utterance": f"{passes.mean().nan_to_num():.1f}",
        }

    def __repr__(self) -> str:
        shown = ", ".join(f"{name}: {value}" for name, value in self._summary().items())
        return f"AttackResult({shown})"

    def _repr_html_(self) -> str:
        return html_table("Result of an attack", self._summary())


@runtime_checkable
class Attack(Protocol):
    """Changes each utterance within `budget` so that the victim misclassifies it."""

    def __call__(
        self,
        victim: Victim,
        batch: FeatureBatch,
        labels: Int[Tensor, "B"],
        budget: Budget,
        *,
        mask: Bool[Tensor, "B T D"] | None = None,
        target: Int[Tensor, "B"] | None = None,
        seeds: Int[Tensor, "B"] | None = None,
    ) -> AttackResult:
        """Attack; with `mask=None` the attack picks its own support."""
