"""SIGMA: saliency-guided sparse mask attacks (arXiv 2606.30550)."""

from __future__ import annotations

import dataclasses

from jaxtyping import Bool, Int
from torch import Tensor

from sigma_ser.core.budget import Budget
from sigma_ser.core.contracts import Attack, AttackResult, Explainer, Explanation, Victim
from sigma_ser.core.errors import BudgetError
from sigma_ser.core.features import FeatureBatch
from sigma_ser.explainers.explanation import as_explainer, explanation
from sigma_ser.masks.topk import explainer_mask

from .factory import make_attack
from .inputs import autograd_usable
from .problem import check_integers


@dataclasses.dataclass(frozen=True)
class Sigma:
    """SIGMA (arXiv 2606.30550): attack inside a mask of the most salient units.

    It explains the true class, selects the most salient units as a mask, and attacks inside it.
    `Sigma` is itself an attack; `explain`, `mask` and `attack` are also usable separately, so one
    mask can serve several attacks. The paper restricts the updates to the salient elements, which
    is `scope=1`: the mask consists of the `k` most salient units. This differs from the paper:
    with a larger scope, the attack selects its `k` units inside a mask of `scope * k` units.

    Args:
        explainer: name of a registered explainer, or an explainer.
        attack: name of a registered attack, or an attack.
        scope: size of the mask as a multiple of the budget `k`, at least 1.

    Raises:
        UnknownNameError: if a name is unknown.
        BudgetError: if `scope` is not an integer of at least 1.
        ExplainerError: if `explainer` is not an explainer.

    >>> from sigma_ser.attacks.sigma import Sigma
    >>> Sigma("gradient", "oneshot", scope=8).scope
    8
    """

    explainer: Explainer
    attacker: Attack
    scope: int

    def __init__(self, explainer: str | Explainer, attack: str | Attack, scope: int = 1) -> None:
        if isinstance(scope, bool) or not isinstance(scope, int) or scope < 1:
            raise BudgetError(f"scope must be an integer of at least 1, got {scope!r}")
        if isinstance(attack, str):
            attack = make_attack(attack)
        object.__setattr__(self, "explainer", as_explainer(explainer))
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
        """The saliency maps for the classes `labels`, with the passes that they took."""
        return explanation(self.explainer, victim, batch, labels, seeds=seeds)

    def mask(
        self, explanation: Explanation, victim: Victim, batch: FeatureBatch, budget: Budget
    ) -> Bool[Tensor, "B T D"]:
        """The mask `(B, T, D)` of the `scope * k` most salient units, in the victim's scale."""
        return explainer_mask(self.explainer, explanation, victim, batch, budget, self.scope)

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
        """Attack inside a given mask, which may come from another victim."""
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
        """Explain, mask and attack; the result includes the passes of the explanation.

        With a given `mask`, no explanation is computed and the mask is used unchanged.
        """
        if mask is not None:
            return self.attack(victim, batch, labels, budget, mask=mask, target=target, seeds=seeds)
        check_integers("labels (class indices)", labels, batch)
        with autograd_usable():
            explained = self.explain(victim, batch, labels, seeds=seeds)
            mask = self.mask(explained, victim, batch, budget)
            result = self.attack(
                victim, batch, labels, budget, mask=mask, target=target, seeds=seeds
            )
            return dataclasses.replace(
                result,
                forwards=result.forwards + explained.forwards.to(result.forwards.device),
                backwards=result.backwards + explained.backwards.to(result.backwards.device),
            )
