"""SIGMA: a saliency map says where, an attack does the rest (arXiv 2606.30550)."""

from __future__ import annotations

import dataclasses

from jaxtyping import Bool, Int
from torch import Tensor

from sigma_ser.core.budget import Budget
from sigma_ser.core.contracts import Attack, AttackResult, Explainer, Explanation, Victim
from sigma_ser.core.errors import BudgetError, ExplainerError
from sigma_ser.core.features import FeatureBatch
from sigma_ser.explainers.explanation import explanation, make_explainer
from sigma_ser.masks.topk import explainer_mask

from .base import check_integers
from .factory import attack as make_attack


@dataclasses.dataclass(frozen=True)
class Sigma:
    """Explain, mask, attack; itself an attack. The parts are usable apart: mask once, use often.

    The paper restricts the updates to the salient elements; with `scope=1` the mask is just those
    `k`. A wider scope lets the attack pick its `k` inside a mask of `scope * k` units, which is
    our extension. The explained class is the true one.

    Args:
        explainer: a name, or an explainer.
        attack: a name, or an attack.
        scope: how many times more units the mask holds than may change, at least 1.

    Raises:
        UnknownNameError: if a name is unknown.
        BudgetError: if `scope` is not a whole number from 1 up.
        ExplainerError: if this is no explainer.

    >>> from sigma_ser.attacks.sigma import Sigma
    >>> Sigma("gradient", "oneshot", scope=8).scope
    8
    """

    explainer: Explainer
    attacker: Attack
    scope: int

    def __init__(self, explainer: str | Explainer, attack: str | Attack, scope: int = 1) -> None:
        if isinstance(scope, bool) or not isinstance(scope, int) or scope < 1:
            raise BudgetError(f"scope must be a whole number from 1 up, got {scope!r}")
        if isinstance(explainer, str):
            explainer = make_explainer(explainer)
        if isinstance(attack, str):
            attack = make_attack(attack)
        if not isinstance(explainer, Explainer):
            raise ExplainerError(
                f"an explainer comes by name or from make_explainer, not as {explainer!r}"
            )
        object.__setattr__(self, "explainer", explainer)
        object.__setattr__(self, "attacker", attack)
        object.__setattr__(self, "scope", scope)

    def explain(
        self,
        victim: Victim,
        batch: FeatureBatch,
        labels: Int[Tensor, "B"],
        *,
        seeds: Int[Tensor, "B"] | None = None,
    ) -> Explanation:
        """The map of each utterance for class `labels`, and what it cost."""
        return explanation(self.explainer, victim, batch, labels, seeds=seeds)

    def mask(
        self, told: Explanation, victim: Victim, batch: FeatureBatch, budget: Budget
    ) -> Bool[Tensor, "B T D"]:
        """The `scope * k` most salient units; `victim` gives the scale of the channels."""
        return explainer_mask(self.explainer, told, victim, batch, budget, self.scope)

    def attack(
        self,
        victim: Victim,
        batch: FeatureBatch,
        labels: Int[Tensor, "B"],
        budget: Budget,
        *,
        mask: Bool[Tensor, "B T D"],
        target: Int[Tensor, "B"] | None = None,
        seeds: Int[Tensor, "B"] | None = None,
    ) -> AttackResult:
        """Attack inside a mask that is already there, of this victim or of another."""
        return self.attacker(victim, batch, labels, budget, mask=mask, target=target, seeds=seeds)

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
        """Explain, mask and attack; the passes of the explanation are counted too.

        With `mask` nothing is explained: the mask is used as it is.
        """
        if mask is not None:
            return self.attack(victim, batch, labels, budget, mask=mask, target=target, seeds=seeds)
        check_integers("labels (class indices)", labels, batch)
        told = self.explain(victim, batch, labels, seeds=seeds)
        mask = self.mask(told, victim, batch, budget)
        result = self.attack(victim, batch, labels, budget, mask=mask, target=target, seeds=seeds)
        return dataclasses.replace(
            result,
            forwards=result.forwards + told.forwards.to(result.forwards.device),
            backwards=result.backwards + told.backwards.to(result.backwards.device),
        )
